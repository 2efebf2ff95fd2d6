package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/onbehalf/onbehalf/client"
)

type workloadsCmd struct {
	List         workloadsListCmd         `cmd:"" help:"List workload identities." example:"onbehalf workloads list --output json"`
	Show         workloadsShowCmd         `cmd:"" help:"Show one." example:"onbehalf workloads show my-agent"`
	Create       workloadsCreateCmd       `cmd:"" help:"Make one: the name under which an agent asks for tokens." example:"onbehalf workloads create my-agent --return-url https://app.example.com/oauth2/callback"`
	Update       workloadsUpdateCmd       `cmd:"" help:"Change its return pages and whose sign-in tokens name its users." example:"onbehalf workloads update my-agent --return-url https://app.example.com/new"`
	RevokeTokens workloadsRevokeTokensCmd `cmd:"" help:"End the workload access tokens of one user that were made until now." example:"onbehalf workloads revoke-tokens my-agent --user ada"`
	Delete       workloadsDeleteCmd       `cmd:"" help:"Delete one, with everything users granted to it." example:"onbehalf workloads delete my-agent"`
}

// Help is shown below the commands of workloads.
func (workloadsCmd) Help() string {
	return `Examples:
  onbehalf workloads create my-agent --return-url https://app.example.com/oauth2/callback
  onbehalf workloads list`
}

// listing is what all lists have.
type listing struct {
	Limit uint `name:"limit" placeholder:"N" help:"Stop after so many. Default: all of them."`
}

// first ends a list at the limit.
func first[T any](l listing, items iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		left := l.Limit
		for item, err := range items {
			if !yield(item, err) || err != nil {
				return
			}
			if left--; left == 0 {
				return
			}
		}
	}
}

// pages yields the items of all pages, one page ahead of nobody: what is not asked for is not fetched.
func pages[T any](next func() (items []T, more bool, err error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			items, more, err := next()
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			if !more {
				return
			}
		}
	}
}

// workload is a workload identity in JSON.
type workload struct {
	Name       string          `json:"name"`
	ARN        string          `json:"arn"`
	ReturnURLs []string        `json:"returnUrls,omitempty"`
	Trusted    []trustedIssuer `json:"trustedIssuers,omitempty"`
	Created    *time.Time      `json:"created,omitempty"`
	Updated    *time.Time      `json:"updated,omitempty"`
}

// trustedIssuer is one whose tokens name users for a workload identity.
type trustedIssuer struct {
	Issuer    string   `json:"issuer"`
	Audiences []string `json:"audiences"`
}

const workloadsList = "onbehalf workloads list"

type workloadsListCmd struct {
	listing
	platform
}

// Run lists them.
func (c workloadsListCmd) Run(ctx context.Context, t *terminal) error {
	p, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	return p.advised(list(t, c.Output, columns("NAME", "ARN~"), func(w workload) []string { return []string{w.Name, w.ARN} },
		"There are no workload identities. Make one: onbehalf workloads create NAME", first(c.listing, p.workloads(ctx))), workloadsList)
}

// workloadAnswer is a workload identity as the API has it.
type workloadAnswer struct {
	Name       string   `json:"name"`
	ARN        string   `json:"workloadIdentityArn"`
	ReturnURLs []string `json:"allowedResourceOauth2ReturnUrls"`
	Created    clock    `json:"createdTime"`
	Updated    clock    `json:"lastUpdatedTime"`
}

func (w workloadAnswer) shown() workload {
	return workload{Name: w.Name, ARN: w.ARN, ReturnURLs: w.ReturnURLs, Created: w.Created.at(), Updated: w.Updated.at()}
}

func (c *connection) workloads(ctx context.Context) iter.Seq2[workload, error] {
	return identityPages(ctx, c, "ListWorkloadIdentities", workloadAnswer.shown)
}

type workloadsShowCmd struct {
	Name string `arg:"" name:"name" help:"Name of the workload identity." complete:"workloads"`
	platform
}

// Run shows it.
func (c workloadsShowCmd) Run(ctx context.Context, t *terminal) error {
	p, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	return p.showWorkload(ctx, c.Output, c.Name)
}

func (c *connection) workload(ctx context.Context, name string) (workload, error) {
	var found workloadAnswer
	err := c.identity(ctx, "GetWorkloadIdentity", object{"name": name}, &found)
	return found.shown(), err
}

// showWorkload also asks for the trusted issuers, where the key may.
func (c *connection) showWorkload(ctx context.Context, output, name string) error {
	w, err := c.workload(ctx, name)
	if err != nil {
		return c.advised(err, workloadsList)
	}
	issuers := "those of the operator"
	trusted, err := c.own.GetTrustedIssuers(ctx, &client.GetTrustedIssuersInput{WorkloadName: &name})
	switch {
	case isDenied(err):
		issuers = "not for this key to see"
	case err != nil:
		return c.advised(err, workloadsList)
	case len(trusted.Issuers) > 0:
		var shown []string
		for _, each := range trusted.Issuers {
			w.Trusted = append(w.Trusted, trustedIssuer{aws.ToString(each.Issuer), each.Audiences})
			shown = append(shown, aws.ToString(each.Issuer)+" for "+strings.Join(each.Audiences, ", "))
		}
		issuers = lines(shown)
	}
	urls := lines(w.ReturnURLs)
	if urls == "" {
		urls = "none: no user can be asked for consent"
	}
	now := time.Now()
	return show(c.t, output, w, field{"Name", w.Name}, field{"ARN", w.ARN}, field{"Return URLs", urls}, field{"Trusted issuers", issuers},
		field{"Created", exactly(w.Created, now)}, field{"Updated", exactly(w.Updated, now)})
}

type workloadsCreateCmd struct {
	Name       string            `arg:"" name:"name" help:"Its name: letters, digits, _ . and -."`
	ReturnURLs []string          `name:"return-url" placeholder:"URL" sep:"none" help:"A page of yours at which consents may end. Repeatable."`
	Trusted    []string          `name:"trusted-issuer" placeholder:"URL=AUD[,AUD]" sep:"none" help:"Whose sign-in tokens name its users, if not those that the operator trusts. Repeatable."`
	Tags       map[string]string `name:"tag" placeholder:"KEY=VALUE" help:"A tag. Repeatable."`
	platform
}

// Run makes it.
func (c workloadsCreateCmd) Run(ctx context.Context, t *terminal) error {
	issuers, err := trustedIssuers(c.Trusted)
	if err != nil {
		return err
	}
	p, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	if err := p.identity(ctx, "CreateWorkloadIdentity", object{"name": c.Name, "allowedResourceOauth2ReturnUrls": append([]string{}, c.ReturnURLs...), "tags": tagged(c.Tags)}, nil); err != nil {
		return p.exists(err, "onbehalf workloads update "+c.Name+" changes it", workloadsList)
	}
	if len(issuers) > 0 {
		if err := p.trust(ctx, c.Name, issuers); err != nil {
			return fmt.Errorf("%s was made, without its trusted issuers: %w", c.Name, err)
		}
	}
	return p.showWorkload(ctx, c.Output, c.Name)
}

// tagged is never null, which the API refuses.
func tagged(tags map[string]string) map[string]string {
	if tags == nil {
		return map[string]string{}
	}
	return tags
}

// trustedIssuers reads URL=AUD[,AUD], as --trusted-issuer of serve is written.
func trustedIssuers(typed []string) ([]client.TrustedIssuer, error) {
	issuers := []client.TrustedIssuer{}
	for _, text := range typed {
		at := strings.LastIndex(text, "=")
		if at <= 0 || at == len(text)-1 {
			return nil, usageError{fmt.Errorf("--trusted-issuer %q is not of the form URL=AUD[,AUD]", text)}
		}
		issuer := text[:at]
		issuers = append(issuers, client.TrustedIssuer{Issuer: &issuer, Audiences: strings.Split(text[at+1:], ",")})
	}
	return issuers, nil
}

func (c *connection) trust(ctx context.Context, name string, issuers []client.TrustedIssuer) error {
	_, err := c.own.PutTrustedIssuers(ctx, &client.PutTrustedIssuersInput{WorkloadName: &name, Issuers: issuers})
	return c.advised(err, workloadsList)
}

type workloadsUpdateCmd struct {
	Name         string   `arg:"" name:"name" help:"Name of the workload identity." complete:"workloads"`
	ReturnURLs   []string `name:"return-url" placeholder:"URL" sep:"none" xor:"urls" help:"The pages at which consents may end from now on, instead of those it had. Repeatable."`
	NoReturnURLs bool     `name:"no-return-urls" xor:"urls" help:"Let consents end nowhere: nobody is asked any more."`
	Trusted      []string `name:"trusted-issuer" placeholder:"URL=AUD[,AUD]" sep:"none" xor:"issuers" help:"Whose sign-in tokens name its users from now on. Repeatable."`
	NoTrusted    bool     `name:"no-trusted-issuers" xor:"issuers" help:"Go back to the issuers that the operator trusts."`
	platform
}

// Run changes it.
func (c workloadsUpdateCmd) Run(ctx context.Context, t *terminal) error {
	urls, trusted := len(c.ReturnURLs) > 0 || c.NoReturnURLs, len(c.Trusted) > 0 || c.NoTrusted
	if !urls && !trusted {
		return usageError{hinted{errors.New("nothing to change"), "give --return-url or --trusted-issuer"}}
	}
	issuers, err := trustedIssuers(c.Trusted)
	if err != nil {
		return err
	}
	p, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	if urls {
		kept := append([]string{}, c.ReturnURLs...)
		if err := p.identity(ctx, "UpdateWorkloadIdentity", object{"name": c.Name, "allowedResourceOauth2ReturnUrls": kept}, nil); err != nil {
			return p.advised(err, workloadsList)
		}
	}
	if trusted {
		if err := p.trust(ctx, c.Name, issuers); err != nil {
			return err
		}
	}
	return p.showWorkload(ctx, c.Output, c.Name)
}

type workloadsRevokeTokensCmd struct {
	Name string `arg:"" name:"name" help:"Name of the workload identity." complete:"workloads"`
	person
	NoUser bool `name:"no-user" help:"The tokens with which it acts for nobody but itself." group:"Whose"`
	platform
}

// Run ends them. Whoever may make tokens can make new ones.
func (c workloadsRevokeTokensCmd) Run(ctx context.Context, t *terminal) error {
	who, err := c.named()
	switch {
	case err != nil:
		return err
	case (who == nil) != c.NoUser:
		return usageError{errors.New("whose tokens? say --user, or --no-user for those with which it acts for itself")}
	}
	p, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	answer, err := p.own.RevokeWorkloadTokens(ctx, &client.RevokeWorkloadTokensInput{WorkloadName: &c.Name, User: who})
	if err != nil {
		return p.advised(err, workloadsList)
	}
	before := aws.ToTime(answer.RevokedBefore).UTC()
	if c.Output == "json" {
		return writeJSON(t.out, map[string]time.Time{"revokedBefore": before})
	}
	_, err = fmt.Fprintln(t.out, "ended: tokens made before", before.Format(time.RFC3339))
	return err
}

type workloadsDeleteCmd struct {
	Name string `arg:"" name:"name" help:"Name of the workload identity." complete:"workloads"`
	Yes  bool   `name:"yes" help:"Do not ask."`
	platform
}

// Run deletes it.
func (c workloadsDeleteCmd) Run(ctx context.Context, t *terminal) error {
	p, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	if _, err := p.workload(ctx, c.Name); err != nil { // also so that a misspelt name asks nothing; AWS's Delete is silent about it
		return p.advised(err, workloadsList)
	}
	if err := t.sure(ctx, c.Yes, "Delete workload identity "+c.Name+" and all that users granted to it?"); err != nil {
		return err
	}
	if err := p.identity(ctx, "DeleteWorkloadIdentity", object{"name": c.Name}, nil); err != nil {
		return p.advised(err, workloadsList)
	}
	return c.done(t, "deleted")
}

// done says in a word what happened.
func (p platform) done(t *terminal, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if p.Output == "json" {
		return writeJSON(t.out, map[string]string{"status": text})
	}
	_, err := fmt.Fprintln(t.out, plain(text))
	return err
}
