package vault

import (
	"slices"
	"strings"
)

// Scopes are a set of OAuth scopes: sorted, without repetitions. The zero Scopes is empty.
type Scopes []string

// ScopesOf makes a set of what a caller or provider lists. A member that has
// spaces is several scopes, since a space is how the protocol separates them.
func ScopesOf(listed []string) Scopes {
	var all []string
	for _, member := range listed {
		if strings.ContainsAny(member, " \t\r\n") {
			all = append(all, strings.Fields(member)...)
		} else if member != "" {
			all = append(all, member)
		}
	}
	return Scopes(Set(all))
}

// ParseScopes is the inverse of String.
func ParseScopes(text string) Scopes { return ScopesOf(strings.Fields(text)) }

// parseScopes trusts the order of what String wrote.
func parseScopes(text string) Scopes {
	if text == "" {
		return nil
	}
	return strings.Split(text, " ")
}

// String is the set as the protocol writes it.
func (s Scopes) String() string { return strings.Join(s, " ") }

// Cover reports whether all that is wanted is in the set.
func (s Scopes) Cover(wanted Scopes) bool {
	for _, scope := range wanted {
		if _, found := slices.BinarySearch(s, scope); !found {
			return false
		}
	}
	return true
}

// Union is the set of what is in either.
func (s Scopes) Union(other Scopes) Scopes {
	return Scopes(Set(slices.Concat(s, other)))
}
