# Completion of onbehalf for fish. Load it with: onbehalf completion fish | source
function __onbehalf_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l found (command onbehalf __complete fish $words[2..-1] "$current" 2>/dev/null)
    if test "$found[1]" = ':files'
        __fish_complete_path "$current"
    else if set -q found[1]
        printf '%s\n' $found
    end
end
complete -c onbehalf -f -a '(__onbehalf_complete)'
