package auth

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Authorizer is a custom JWT authorizer: whose tokens a gateway or runtime takes,
// and which of them. All rules that are set must hold; within one rule, any of
// its values.
type Authorizer struct {
	DiscoveryURL     string      `json:"discoveryUrl"`
	Audiences        []string    `json:"audiences,omitempty"` // one of them in aud
	Clients          []string    `json:"clients,omitempty"`   // client_id is one of them
	Scopes           []string    `json:"scopes,omitempty"`    // one of them granted
	ScopesAdvertised []string    `json:"scopesAdvertised,omitempty"`
	Claims           []ClaimRule `json:"claims,omitempty"`
}

// The types of claim and the operators, as the API spells them.
const (
	ClaimString      = "STRING"
	ClaimStringArray = "STRING_ARRAY"

	ClaimEquals      = "EQUALS"       // STRING: the claim is Value
	ClaimContains    = "CONTAINS"     // STRING_ARRAY: the claim has Value in it
	ClaimContainsAny = "CONTAINS_ANY" // STRING_ARRAY: the claim has one of Values in it
)

// ClaimRule is a rule about one more claim. A claim that is absent or of another
// type than the rule says fails it.
type ClaimRule struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Operator string   `json:"operator"`
	Value    string   `json:"value,omitempty"`
	Values   []string `json:"values,omitempty"`
}

// Advertised is what clients are told to ask their provider for: ScopesAdvertised,
// or Scopes where nothing else is said.
func (z Authorizer) Advertised() []string {
	if len(z.ScopesAdvertised) > 0 {
		return z.ScopesAdvertised
	}
	return z.Scopes
}

// Check refuses an authorizer that would take any token of its issuer, and rules
// that can never hold or that say nothing.
func (z Authorizer) Check() error {
	const prefix = "authorizerConfiguration.customJWTAuthorizer."
	if !strings.HasSuffix(z.DiscoveryURL, "/.well-known/openid-configuration") && !strings.HasSuffix(z.DiscoveryURL, "/.well-known/oauth-authorization-server") {
		return fault.InvalidField(prefix+"discoveryUrl", "The discovery URL must end in /.well-known/openid-configuration or /.well-known/oauth-authorization-server.")
	}
	if len(z.Audiences)+len(z.Clients)+len(z.Scopes)+len(z.Claims) == 0 {
		return fault.InvalidField("authorizerConfiguration.customJWTAuthorizer",
			"At least one of allowedAudience, allowedClients, allowedScopes or customClaims must be set: an issuer alone would let in tokens made for other applications.")
	}
	for _, list := range [...]struct {
		name   string
		values []string
	}{{"allowedAudience", z.Audiences}, {"allowedClients", z.Clients}, {"allowedScopes", z.Scopes}} {
		if slices.Contains(list.values, "") {
			return fault.InvalidField(prefix+list.name, "An entry of %s is empty.", list.name)
		}
	}
	for _, rule := range z.Claims {
		if complaint := rule.complaint(); complaint != "" {
			return fault.InvalidField(prefix+"customClaims", "%s", complaint)
		}
	}
	return nil
}

// complaint says what is wrong with the rule; empty when nothing is.
func (c ClaimRule) complaint() string {
	switch {
	case c.Name == "":
		return "A custom claim has no name."
	case c.Operator == ClaimEquals && c.Type != ClaimString:
		return "The operator EQUALS goes with the claim value type STRING."
	case (c.Operator == ClaimContains || c.Operator == ClaimContainsAny) && c.Type != ClaimStringArray:
		return "The operators CONTAINS and CONTAINS_ANY go with the claim value type STRING_ARRAY."
	case c.Operator == ClaimEquals || c.Operator == ClaimContains:
		if c.Value == "" || len(c.Values) > 0 {
			return "The operators EQUALS and CONTAINS need a matchValueString."
		}
	case c.Operator == ClaimContainsAny:
		if len(c.Values) == 0 || c.Value != "" || slices.Contains(c.Values, "") {
			return "The operator CONTAINS_ANY needs a matchValueStringList without empty strings."
		}
	default:
		return "The claim match operator must be EQUALS, CONTAINS or CONTAINS_ANY."
	}
	return ""
}

// PutAuthorizer stores the authorizer of a gateway or runtime, so that sessions
// opened under it can be completed under it (VerifyUser). It belongs into the
// transaction that stores its owner. An owner's account never changes.
func (a *Authenticator) PutAuthorizer(tx *store.Tx, account, ownerARN string, z Authorizer) error {
	if err := z.Check(); err != nil {
		return err
	}
	definition, err := json.Marshal(z)
	if err != nil {
		return fault.Wrap(err, "encoding an authorizer")
	}
	changed, err := tx.Exec(`INSERT INTO authorizers (owner, account, definition, updated) VALUES ($1, $2, $3, $4)
		ON CONFLICT (owner) DO UPDATE SET definition = excluded.definition, updated = excluded.updated
		WHERE authorizers.account = excluded.account`, ownerARN, account, string(definition), store.Micros(tx.Now))
	if err != nil {
		return fault.Wrap(err, "storing an authorizer")
	}
	if changed == 0 {
		return fault.Wrap(errors.New("the owner's authorizer belongs to another account"), "storing an authorizer")
	}
	return nil
}

// DeleteAuthorizer forgets an owner's authorizer, if there is one: sessions
// opened under it can no longer be completed. For the transaction that deletes
// the owner or takes its authorizer away.
func (a *Authenticator) DeleteAuthorizer(tx *store.Tx, ownerARN string) error {
	_, err := tx.Exec(`DELETE FROM authorizers WHERE owner = $1`, ownerARN)
	return fault.Wrap(err, "deleting an authorizer")
}

// readAuthorizer finds the authorizer of an owner in the same account.
func readAuthorizer(tx *store.Tx, account, ownerARN string) (Authorizer, error) {
	var definition string
	err := tx.QueryRow(`SELECT definition FROM authorizers WHERE owner = $1 AND account = $2`, ownerARN, account).Scan(&definition)
	if errors.Is(err, store.ErrNoRows) {
		return Authorizer{}, fault.New(fault.Denied, "The gateway or runtime that vouched for the user has no authorizer any more.")
	}
	if err != nil {
		return Authorizer{}, fault.Wrap(err, "reading an authorizer")
	}
	var z Authorizer
	if err := json.Unmarshal([]byte(definition), &z); err != nil {
		return Authorizer{}, fault.Wrap(err, "decoding an authorizer")
	}
	return z, nil
}
