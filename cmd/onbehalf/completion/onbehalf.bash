# Completion of onbehalf for bash. Load it with: source <(onbehalf completion bash)
_onbehalf() {
  local found candidate
  COMPREPLY=()
  found=$(command onbehalf __complete bash "$COMP_LINE" "$COMP_POINT" "$2" 2>/dev/null) || return 0
  if [ "$found" = ':files' ]; then
    compopt -o default 2>/dev/null
    return 0
  fi
  # Candidates are words of letters, digits and a few signs that nothing expands.
  while read -r candidate; do
    if [ -n "$candidate" ]; then COMPREPLY+=("$candidate"); fi
  done <<< "$found"
}
complete -F _onbehalf onbehalf
