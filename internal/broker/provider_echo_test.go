package broker

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// notEchoed are the members of a configuration that answers show otherwise, or never.
var notEchoed = []string{"clientSecret", "clientSecretSource", "clientSecretConfig"}

// customConfigurations set each member of the API's CustomOauth2ProviderConfigInput, between them.
func customConfigurations(w *world) map[string]*api.CustomOauth2ProviderConfigInput {
	metadata := &api.Oauth2Discovery{AuthorizationServerMetadata: &api.Oauth2AuthorizationServerMetadata{
		Issuer: w.idp.URL, AuthorizationEndpoint: w.idp.URL + "/authorize", TokenEndpoint: w.idp.URL + "/token", ResponseTypes: []string{"code", "token"},
	}}
	deprecated := *metadata.AuthorizationServerMetadata
	deprecated.TokenEndpointAuthMethods = []string{"client_secret_post"}
	discovery := custom(w.idp, "client").CustomOauth2ProviderConfig.OauthDiscovery
	lattice := &api.PrivateEndpoint{SelfManagedLatticeResource: &api.SelfManagedLatticeResource{ResourceConfigurationIdentifier: pointer("rcfg-0123456789abcdef0")}}
	managed := &api.PrivateEndpoint{ManagedVpcResource: &api.ManagedVpcResource{
		VpcIdentifier: "vpc-0123456789abcdef0", SubnetIds: []string{"subnet-1", "subnet-2"}, EndpointIpAddressType: "IPV6", SecurityGroupIds: []string{"sg-1"}, RoutingDomain: pointer("a.example"), Tags: map[string]string{"a": "b"},
	}}
	signing := signing(w.idp, "PS256", signingARN(account, 1)).CustomOauth2ProviderConfig
	signing.PrivateEndpointOverrides = []api.PrivateEndpointOverride{{Domain: "idp.internal", PrivateEndpoint: lattice}, {Domain: "other.internal", PrivateEndpoint: managed}}
	return map[string]*api.CustomOauth2ProviderConfigInput{
		"signing": signing,
		"managed": {
			OauthDiscovery: metadata, ClientId: pointer("client"), ClientSecret: secret.Pointer(clientSecret), ClientSecretSource: api.SecretSourceTypeManaged, ClientAuthenticationMethod: api.ClientAuthenticationMethodTypeClientSecretPost,
			PrivateEndpoint:               managed,
			OnBehalfOfTokenExchangeConfig: noClient(&onBehalfOf{GrantType: bearer}),
		},
		"deprecated": {OauthDiscovery: &api.Oauth2Discovery{AuthorizationServerMetadata: &deprecated}, ClientId: pointer("client"), ClientSecret: secret.Pointer(clientSecret)},
		"elsewhere": {
			OauthDiscovery: discovery, ClientId: pointer("client"), ClientSecretSource: api.SecretSourceTypeExternal, ClientSecretConfig: &api.SecretReference{SecretId: "files/a", JsonKey: "$"},
			ClientAuthenticationMethod: api.ClientAuthenticationMethodTypeClientSecretBasic, PrivateEndpoint: lattice, PrivateEndpointOverrides: []api.PrivateEndpointOverride{},
			OnBehalfOfTokenExchangeConfig: exchangeBy("M2M", "act", "more"),
		},
	}
}

// Each member of a custom configuration is shown as it was given, by Create, Get
// and Update, and what is shown can be given back.
func TestEveryMemberOfACustomConfigurationIsEchoed(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		put(t, w.sources(t), "a", clientSecret)
		w.clientKeys(t)
		set := map[string]bool{}
		for name, input := range customConfigurations(w) {
			membersSet(reflect.ValueOf(input), "", set)
			union := &api.Oauth2ProviderConfigInput{CustomOauth2ProviderConfig: input}
			made, err := w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{Name: name, CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: union})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			shown, err := w.GetOauth2CredentialProvider(t.Context(), root, &api.GetOauth2CredentialProviderRequest{Name: name})
			if err != nil {
				t.Fatal(err)
			}
			want := plainJSON(t, input.AppendJSON(nil))
			for _, member := range notEchoed {
				delete(want, member)
			}
			if want["clientAuthenticationMethod"] == nil && name != "deprecated" {
				want["clientAuthenticationMethod"] = "CLIENT_SECRET_BASIC"
			}
			for at, out := range map[string]*api.Oauth2ProviderConfigOutput{"create": made.Oauth2ProviderConfigOutput, "get": shown.Oauth2ProviderConfigOutput} {
				if diff := cmp.Diff(want, plainJSON(t, out.CustomOauth2ProviderConfig.AppendJSON(nil))); diff != "" {
					t.Errorf("%s, %s (-want +got):\n%s", name, at, diff)
				}
			}
			if made.ClientSecretArn.SecretArn != shown.ClientSecretArn.SecretArn || made.ClientSecretSource != shown.ClientSecretSource || !cmp.Equal(made.ClientSecretJsonKey, shown.ClientSecretJsonKey) {
				t.Errorf("%s: create and get show different secrets", name)
			}

			// As a program does that manages providers: read, fill the secret in, write.
			var back api.CustomOauth2ProviderConfigInput
			if err := json.Unmarshal(shown.Oauth2ProviderConfigOutput.CustomOauth2ProviderConfig.AppendJSON(nil), &back); err != nil {
				t.Fatal(err)
			}
			back.ClientSecret, back.ClientSecretSource = input.ClientSecret, shown.ClientSecretSource
			if shown.ClientSecretJsonKey != nil {
				back.ClientSecretConfig = &api.SecretReference{SecretId: shown.ClientSecretArn.SecretArn, JsonKey: *shown.ClientSecretJsonKey}
			}
			updated, err := w.UpdateOauth2CredentialProvider(t.Context(), root, &api.UpdateOauth2CredentialProviderRequest{
				Name: name, CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: &api.Oauth2ProviderConfigInput{CustomOauth2ProviderConfig: &back},
			})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if diff := cmp.Diff(string(shown.Oauth2ProviderConfigOutput.AppendJSON(nil)), string(updated.Oauth2ProviderConfigOutput.AppendJSON(nil))); diff != "" {
				t.Errorf("%s, update (-want +got):\n%s", name, diff)
			}
		}
		every := map[string]bool{}
		membersOf(reflect.TypeFor[api.CustomOauth2ProviderConfigInput](), "", every)
		for member := range every {
			if !set[member] {
				t.Errorf("no configuration of this test sets %s", member)
			}
		}
		w.noCanaries(t)
	})
}

func plainJSON(t testing.TB, encoded []byte) map[string]any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal(encoded, &object); err != nil {
		t.Fatal(err)
	}
	return object
}

// structOf looks through pointers and lists for a structure of the API.
func structOf(t reflect.Type) (reflect.Type, bool) {
	for slices.Contains([]reflect.Kind{reflect.Pointer, reflect.Slice}, t.Kind()) {
		t = t.Elem()
	}
	return t, t.Kind() == reflect.Struct && t != reflect.TypeFor[secret.Text]()
}

// membersOf lists all members of a structure, down to the last.
func membersOf(t reflect.Type, prefix string, into map[string]bool) {
	for i := range t.NumField() {
		name := prefix + strings.Split(t.Field(i).Tag.Get("json"), ",")[0]
		into[name] = true
		if inner, is := structOf(t.Field(i).Type); is {
			membersOf(inner, name+".", into)
		}
	}
}

// membersSet lists those that a value sets.
func membersSet(v reflect.Value, prefix string, into map[string]bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			membersSet(v.Elem(), prefix, into)
		}
	case reflect.Slice:
		for i := range v.Len() {
			membersSet(v.Index(i), prefix, into)
		}
	case reflect.Struct:
		if _, is := structOf(v.Type()); !is {
			return
		}
		for i := range v.NumField() {
			if !v.Field(i).IsZero() {
				name := prefix + strings.Split(v.Type().Field(i).Tag.Get("json"), ",")[0]
				into[name] = true
				membersSet(v.Field(i), name+".", into)
			}
		}
	}
}
