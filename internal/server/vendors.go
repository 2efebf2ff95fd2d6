package server

import (
	"strings"

	"github.com/onbehalf/onbehalf/internal/oauth"
)

// Vendor is what a person has to know of an OAuth2 vendor to configure it.
type Vendor struct {
	Short          string // what people type: google
	Name           string // the API's: GoogleOauth2
	Title          string // what people say: Google
	Tenanted       bool   // issuer and endpoints are the customer's own
	Tenants        bool   // endpoints name a tenant, which may be left to its default
	RefreshScope   string // the scope to ask for where refresh tokens have one
	WithoutRefresh bool   // there are no refresh tokens
	Documentation  string

	Issuer, AuthorizationEndpoint, TokenEndpoint string // preset, where they are
}

// Vendors lists the vendors of the table, by name.
func Vendors() []Vendor {
	var list []Vendor
	for _, v := range oauth.Vendors() {
		list = append(list, Vendor{
			Short: strings.ToLower(strings.TrimSuffix(v.Name, "Oauth2")), Name: v.Name, Title: v.Title, Tenanted: v.Tenanted, Tenants: v.DefaultTenant != "",
			RefreshScope: v.RefreshScope, WithoutRefresh: v.Quirks.WithoutRefresh, Documentation: v.Source,
			Issuer: v.Metadata.Issuer, AuthorizationEndpoint: v.Metadata.AuthorizationEndpoint, TokenEndpoint: v.Metadata.TokenEndpoint,
		})
	}
	return list
}
