package agent_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/onbehalf/onbehalf/agent"
)

type credentialsOf struct {
	Token agent.Secret `json:"-"`
}

type question struct {
	credentialsOf
	City string
	Key  string `json:"-"`
	n    int
}

func both(int, call) (int, any) { return 200, object{"accessToken": "granted", "apiKey": "key"} }

// Two wrappers around one function, each with a field of its own; the caller's input stays clean.
func TestIntoFields(t *testing.T) {
	t.Parallel()
	client, _ := over(both)
	forToken := agent.AccessTokenOptions{Provider: "people", Flow: agent.M2M, Client: client}
	forKey := agent.APIKeyOptions{Provider: "weather", Client: client}

	byValue := agent.RequireAccessTokenInto("Token", forToken, agent.RequireAPIKeyInto("Key", forKey, func(_ context.Context, q question) (string, error) {
		return fmt.Sprint(q.City, q.Token.Reveal(), q.Key, q.n), nil
	}))
	if got, err := byValue(hosted(t), question{City: "London", n: 1}); err != nil || got != "Londongrantedkey1" {
		t.Errorf("%q, %v", got, err)
	}

	byPointer := agent.RequireAccessTokenInto("Token", forToken, func(_ context.Context, q *question) (string, error) { return q.City + q.Token.Reveal(), nil })
	shared := &question{City: "London"}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if got, err := byPointer(hosted(t), shared); err != nil || got != "Londongranted" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	group.Wait()
	if !shared.Token.IsZero() {
		t.Error("the caller's input has the token")
	}
	if got, err := byPointer(hosted(t), nil); err != nil || got != "granted" {
		t.Errorf("%q, %v", got, err)
	}

	byKey := agent.RequireAPIKeyInto("api_key", forKey, func(_ context.Context, in map[string]any) (string, error) {
		return fmt.Sprint(in["city"], in["api_key"], in["api_key"].(agent.Secret).Reveal()), nil
	})
	arguments := map[string]any{"city": "London", "api_key": "chosen by a model"}
	before := maps.Clone(arguments)
	if got, err := byKey(hosted(t), arguments); err != nil || got != "London[redacted]key" {
		t.Errorf("%q, %v", got, err)
	}
	if !maps.Equal(arguments, before) {
		t.Errorf("the caller's input was changed: %v", arguments)
	}
	if got, err := byKey(hosted(t), nil); err != nil || !strings.HasSuffix(got, "key") {
		t.Errorf("%q, %v", got, err)
	}
}

// A field that cannot be is found when the function is wrapped.
func TestIntoNoSuchField(t *testing.T) {
	t.Parallel()
	type behind struct{ *credentialsOf }
	for says, wrap := range map[string]func(){
		`no exported field "Missing"`: func() { into[question]("Missing") },
		`no exported field "n"`:       func() { into[question]("n") },
		`no exported field "Token"`:   func() { into[struct{ Token int }]("Token") },
		"behind an embedded pointer":  func() { into[behind]("Token") },
		"the input is a string":       func() { into[string]("Token") },
		"the input is a map[string]i": func() { into[map[string]int]("Token") },
		"the input is a interface {}": func() { into[any]("Token") },
	} {
		func() {
			defer func() {
				if said := fmt.Sprint(recover()); !strings.Contains(said, says) || !strings.Contains(said, "agent.RequireAccessTokenInto") {
					t.Errorf("want %q, got %q", says, said)
				}
			}()
			wrap()
		}()
	}
}

func into[In any](field string) {
	agent.RequireAccessTokenInto(field, agent.AccessTokenOptions{}, func(context.Context, In) (string, error) { return "", nil })
}

// A wrapper keeps the options that it was made with.
func TestOptionsAreCopied(t *testing.T) {
	t.Parallel()
	client, wire := over(both)
	scopes := []string{"read"}
	wrapped := agent.RequireAccessToken(agent.AccessTokenOptions{Provider: "people", Flow: agent.M2M, Scopes: scopes, Client: client},
		func(context.Context, struct{}, agent.Secret) (struct{}, error) { return struct{}{}, nil })
	scopes[0] = "write"
	if _, err := wrapped(hosted(t), struct{}{}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(wire.seen()[0].Body["scopes"]); got != "[read]" {
		t.Error(got)
	}
}
