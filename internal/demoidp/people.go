package demoidp

import (
	"slices"
	"strings"
)

// Person is somebody to sign in as. ID is the subject in tokens.
type Person struct {
	ID         string
	GivenName  string
	FamilyName string
	Email      string
}

// Name is the person's display name.
func (p Person) Name() string { return strings.TrimSpace(p.GivenName + " " + p.FamilyName) }

// Initials stand in for a picture.
func (p Person) Initials() string {
	initials := ""
	for _, name := range []string{p.GivenName, p.FamilyName} {
		for _, letter := range name {
			initials += string(letter)
			break
		}
	}
	return initials
}

// The people of the demo, for those who play them over HTTP.
const (
	Ada   = "ada-lovelace"
	Grace = "grace-hopper"
)

// People are the two who live at every provider that names no others.
func People() []Person {
	return []Person{
		{ID: Ada, GivenName: "Ada", FamilyName: "Lovelace", Email: "ada@example.com"},
		{ID: Grace, GivenName: "Grace", FamilyName: "Hopper", Email: "grace@example.com"},
	}
}

func (p *Provider) person(id string) (Person, bool) {
	i := slices.IndexFunc(p.people, func(one Person) bool { return one.ID == id })
	if i < 0 {
		return Person{}, false
	}
	return p.people[i], true
}

// standardScopes say on the consent page what each scope lets the client do.
var standardScopes = map[string]string{
	"openid":         "Know who you are",
	"profile":        "See your name",
	"email":          "See your email address",
	"offline_access": "Keep this access while you are away",
}

func (p *Provider) scopeNames() []string {
	names := make([]string, 0, len(p.scopes))
	for name := range p.scopes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
