package main

import (
	"encoding/json"
	"net/url"
	"strings"

	"github.com/onbehalf/onbehalf/internal/server"
)

// oauthClient is the platform's client at a vendor, whichever of the API's nine
// structures that vendor has. An update sends the whole of it, so it also holds
// what no flag says.
type oauthClient struct {
	vendor server.Vendor

	id, secret                                   string
	secretID, secretJSONKey                      string // instead of the secret
	tenant                                       string
	discoveryURL                                 string
	issuer, authorizationEndpoint, tokenEndpoint string
	method                                       string // basic, post; empty: the platform decides
	was                                          object // of a custom provider that is there already: all that it is
}

// ownMember are the vendors that have a member of the unions of their own; the
// others share includedOauth2ProviderConfig.
var ownMember = map[string]bool{
	vendorCustom: true, "google": true, "github": true, "slack": true, "salesforce": true, "microsoft": true, "atlassian": true, "linkedin": true,
}

// memberOf is the unions' member of a vendor: googleOauth2ProviderConfig of GoogleOauth2.
func memberOf(v server.Vendor) string {
	if !ownMember[v.Short] {
		return "includedOauth2ProviderConfig"
	}
	return strings.ToLower(v.Name[:1]) + v.Name[1:] + "ProviderConfig"
}

// input is the union with the vendor's member.
func (o oauthClient) input() object {
	in := object{}
	for name, value := range o.was {
		in[name] = value
	}
	in.with("clientId", o.id)
	if o.secretID != "" {
		in["clientSecretSource"], in["clientSecretConfig"] = sourceExternal, reference(o.secretID, o.secretJSONKey)
	} else {
		in.with("clientSecret", o.secret)
	}
	switch {
	case o.vendor.Short == vendorCustom:
		o.custom(in)
	case o.vendor.Tenants:
		in.with("tenantId", o.tenant)
	case !ownMember[o.vendor.Short]:
		in.with("issuer", o.issuer).with("authorizationEndpoint", o.authorizationEndpoint).with("tokenEndpoint", o.tokenEndpoint)
	}
	return object{memberOf(o.vendor): in}
}

// methods are the API's names of how a client proves itself.
var methods = map[string]string{"basic": "CLIENT_SECRET_BASIC", "post": "CLIENT_SECRET_POST"}

// custom fills in what only a custom provider has.
func (o oauthClient) custom(in object) {
	metadata := object{}
	if discovery, is := in["oauthDiscovery"].(map[string]any); is {
		if known, is := discovery["authorizationServerMetadata"].(map[string]any); is {
			metadata = known
		}
	}
	if o.method != "" {
		in["clientAuthenticationMethod"] = methods[o.method]
		delete(in, "privateKeyJwtConfig")
		delete(metadata, "tokenEndpointAuthMethods") // one of the two says it
	}
	if o.discoveryURL != "" {
		in["oauthDiscovery"] = object{"discoveryUrl": o.discoveryURL}
		return
	}
	metadata["issuer"], metadata["authorizationEndpoint"], metadata["tokenEndpoint"] = o.issuer, o.authorizationEndpoint, o.tokenEndpoint
	in["oauthDiscovery"] = object{"authorizationServerMetadata": metadata}
}

// needsNoSecret is a client that proves itself by a key, or not at all.
func (o oauthClient) needsNoSecret() bool {
	method, _ := o.was["clientAuthenticationMethod"].(string)
	return o.method == "" && method != "" && method != methods["basic"] && method != methods["post"]
}

// clientOf reads what a provider has, for an update that keeps it.
func clientOf(v server.Vendor, p provider, full providerAnswer) (oauthClient, error) {
	o := oauthClient{vendor: v, id: p.ClientID, secretID: p.SecretID, secretJSONKey: p.SecretJSONKey, discoveryURL: p.DiscoveryURL,
		issuer: p.Issuer, authorizationEndpoint: p.AuthorizationEndpoint, tokenEndpoint: p.TokenEndpoint}
	if v.Short == vendorCustom {
		return o, json.Unmarshal(full.Config[memberOf(v)], &o.was)
	}
	if v.Tenants {
		o.tenant = tenantIn(v.AuthorizationEndpoint, p.AuthorizationEndpoint)
	}
	// A preset that is sent back would no longer follow the platform's table.
	for _, each := range []struct{ own, preset *string }{
		{&o.issuer, &v.Issuer}, {&o.authorizationEndpoint, &v.AuthorizationEndpoint}, {&o.tokenEndpoint, &v.TokenEndpoint},
	} {
		if *each.own == *each.preset {
			*each.own = ""
		}
	}
	return o, nil
}

// override takes what the flags say. Another discovery URL replaces explicit addresses, and the other way round.
func (o *oauthClient) override(f providerFlags) {
	if f.DiscoveryURL != "" {
		o.issuer, o.authorizationEndpoint, o.tokenEndpoint = "", "", ""
	}
	if firstOf(f.Issuer, f.AuthorizationEndpoint, f.TokenEndpoint) != "" {
		o.discoveryURL = ""
	}
	for _, each := range []struct {
		to   *string
		said string
	}{
		{&o.id, f.ClientID}, {&o.tenant, f.Tenant}, {&o.discoveryURL, f.DiscoveryURL}, {&o.issuer, f.Issuer},
		{&o.authorizationEndpoint, f.AuthorizationEndpoint}, {&o.tokenEndpoint, f.TokenEndpoint}, {&o.method, f.AuthMethod},
	} {
		if each.said != "" {
			*each.to = each.said
		}
	}
}

// tenantIn finds the tenant in an address made of the vendor's template, which names it {tenant}.
func tenantIn(template, address string) string {
	before, after, _ := strings.Cut(template, "{tenant}")
	tenant, ok := strings.CutPrefix(address, before)
	if ok {
		tenant, ok = strings.CutSuffix(tenant, after)
	}
	if !ok || tenant != url.PathEscape(tenant) {
		return ""
	}
	return tenant
}

// union is the output's configuration: one member, by vendor, all of them alike.
type union map[string]json.RawMessage

// read takes from it what is shown.
func (u union) read(p *provider) {
	for _, member := range u {
		var has struct {
			ClientID  string `json:"clientId"`
			Method    string `json:"clientAuthenticationMethod"`
			Discovery struct {
				URL      string `json:"discoveryUrl"`
				Metadata struct {
					Issuer                string `json:"issuer"`
					AuthorizationEndpoint string `json:"authorizationEndpoint"`
					TokenEndpoint         string `json:"tokenEndpoint"`
				} `json:"authorizationServerMetadata"`
			} `json:"oauthDiscovery"`
		}
		if json.Unmarshal(member, &has) == nil {
			metadata := has.Discovery.Metadata
			p.ClientID, p.AuthMethod, p.DiscoveryURL = has.ClientID, has.Method, has.Discovery.URL
			p.Issuer, p.AuthorizationEndpoint, p.TokenEndpoint = metadata.Issuer, metadata.AuthorizationEndpoint, metadata.TokenEndpoint
		}
	}
}

func reference(id, key string) object {
	return object{"secretId": id}.with("jsonKey", key)
}

// given is nil for what was not said.
func given(value string) *string {
	if value == "" {
		return nil
	}
	return &value
}
