package broker

import (
	"maps"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// parameterAccount is the customParameter of ours that says which of several
// accounts of the user at the provider is meant. It is taken out before anything
// goes to the provider, and is part of the grant's key.
const (
	ownParameters    = "onbehalf_"
	parameterAccount = ownParameters + "account"
)

// accountLabel takes our own parameters out of what a caller sends. Whatever
// else begins like ours is a mistake, and no provider's business.
func accountLabel(parameters map[string]string) (label string, rest map[string]string, err error) {
	rest = parameters
	for name, value := range parameters {
		switch {
		case !strings.HasPrefix(name, ownParameters):
			continue
		case name != parameterAccount:
			return "", nil, fault.InvalidField("customParameters", "customParameters that begin with %s are Onbehalf's own, and %s is the only one.", ownParameters, parameterAccount)
		case !validLabel(value):
			return "", nil, fault.InvalidField("customParameters", "%s is the name of an account: 1 to 64 letters, digits or any of ._@-", parameterAccount)
		}
		label, rest = value, maps.Clone(parameters)
		delete(rest, parameterAccount)
	}
	return label, rest, nil
}

func validLabel(label string) bool {
	return label != "" && len(label) <= 64 && !strings.ContainsFunc(label, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && !strings.ContainsRune("._@-", r)
	})
}
