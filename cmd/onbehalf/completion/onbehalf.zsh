#compdef onbehalf
# Completion of onbehalf for zsh. Load it, after compinit, with: source <(onbehalf completion zsh)
_onbehalf() {
  local reply
  local -a candidates
  reply="$(command onbehalf __complete zsh "${(@Q)words[2,CURRENT]}" 2>/dev/null)"
  if [[ "$reply" == ':files' ]]; then
    _files
  elif [[ -n "$reply" ]]; then
    candidates=("${(@f)reply}")
    _describe onbehalf candidates
  fi
}
if [[ "${funcstack[1]}" == _onbehalf ]]; then
  _onbehalf "$@"
else
  compdef _onbehalf onbehalf
fi
