package external

import (
	"context"
	"os"
	"slices"
	"strings"
)

// ownVariables are the beginnings of variables that configure the platform
// itself, or hold its own credentials: no reference names one, whatever the prefix.
var ownVariables = []string{"ONBEHALF_", "AWS_", "PG", "VAULT_", "BAO_"}

// ownVariable is case-blind, because Windows is.
func ownVariable(name string) bool {
	upper := strings.ToUpper(name)
	for _, own := range ownVariables {
		if strings.HasPrefix(upper, own) {
			return true
		}
	}
	return false
}

// environment reads the variables of this process whose names begin with a prefix.
type environment struct {
	prefix    string
	protected []string // the platform's own by an operator's word, besides ownVariables
}

func (e environment) read(_ context.Context, path string) ([]byte, error) {
	name := e.prefix + path
	if ownVariable(name) || slices.ContainsFunc(e.protected, func(own string) bool { return strings.EqualFold(own, name) }) {
		return nil, errPlatform
	}
	if !variableName.MatchString(name) {
		return nil, errNotThere
	}
	value, found := os.LookupEnv(name)
	if !found {
		return nil, errNotThere
	}
	if len(value) > contentLimit {
		return nil, errTooLarge
	}
	return []byte(value), nil
}
