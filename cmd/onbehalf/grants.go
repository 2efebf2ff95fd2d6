package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/onbehalf/onbehalf/client"
)

type grantsCmd struct {
	List   grantsListCmd   `cmd:"" help:"List what users granted to which workload; never a token." example:"onbehalf grants list --user ada\nonbehalf grants list --state needs-consent --output json"`
	Show   grantsShowCmd   `cmd:"" help:"Show one." example:"onbehalf grants show 5H7NQ2KXVTB3Z6WD"`
	Revoke grantsRevokeCmd `cmd:"" help:"Take grants back, here and at the provider."`
	State  grantsStateCmd  `cmd:"" help:"Say whether a workload has a token for a user, without asking anybody."`
}

// Help is shown below the commands of grants.
func (grantsCmd) Help() string {
	return `Examples:
  onbehalf grants list --user ada
  onbehalf grants list --state needs-consent --output json
  onbehalf grants revoke --user ada --all`
}

// grant is a grant in JSON.
type grant struct {
	ID              string     `json:"id"`
	User            user       `json:"user"`
	Workload        string     `json:"workload"`
	Provider        string     `json:"provider"`
	Account         string     `json:"accountLabel,omitempty"`
	State           string     `json:"state"`
	RequestedScopes []string   `json:"requestedScopes"`
	GrantedScopes   []string   `json:"grantedScopes,omitempty"`
	Resources       []string   `json:"resources,omitempty"`
	Audiences       []string   `json:"audiences,omitempty"`
	Refreshable     bool       `json:"refreshable"`
	RefreshFailures int32      `json:"refreshFailures,omitempty"`
	NextRefresh     *time.Time `json:"nextRefresh,omitempty"`
	Created         *time.Time `json:"created,omitempty"`
	Refreshed       *time.Time `json:"refreshed,omitempty"`
	LastUsed        *time.Time `json:"lastUsed,omitempty"`
	Expires         *time.Time `json:"expires,omitempty"`
}

func grantOf(g *client.Grant) grant {
	if g == nil {
		return grant{RequestedScopes: []string{}}
	}
	return grant{
		ID: aws.ToString(g.GrantId), User: userOf(g.User), Workload: aws.ToString(g.WorkloadName), Provider: aws.ToString(g.ProviderName), Account: aws.ToString(g.AccountLabel),
		State: string(g.State), RequestedScopes: append([]string{}, g.RequestedScopes...), GrantedScopes: g.GrantedScopes, Resources: g.Resources, Audiences: g.Audiences,
		Refreshable: aws.ToBool(g.Refreshable), RefreshFailures: aws.ToInt32(g.RefreshFailures), NextRefresh: moment(g.NextRefreshAt),
		Created: moment(g.CreatedAt), Refreshed: moment(g.RefreshedAt), LastUsed: moment(g.LastUsedAt), Expires: moment(g.ExpiresAt),
	}
}

// at is the provider, and which of the user's accounts there.
func (g grant) at() string {
	if g.Account != "" {
		return g.Provider + " (" + g.Account + ")"
	}
	return g.Provider
}

const grantsList = "onbehalf grants list"

// among narrows grants down.
type among struct {
	person
	Workload string `name:"workload" placeholder:"NAME" help:"The workload identity that it was granted to." complete:"workloads" group:"Whose"`
	Provider string `name:"provider" placeholder:"NAME" help:"The OAuth2 credential provider." complete:"oauth2" group:"Whose"`
}

type grantsListCmd struct {
	listing
	among
	State string `name:"state" enum:",active,expired,needs-consent" default:"" placeholder:"STATE" help:"active, expired (the next call renews it) or needs-consent (only the user can)." group:"Whose"`
	platform
}

// Run lists them.
func (c grantsListCmd) Run(ctx context.Context, t *terminal) error {
	who, err := c.named()
	if err != nil {
		return err
	}
	p, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	now := time.Now()
	row := func(g grant) []string {
		return []string{g.ID, g.User.String(), g.Workload, g.at(), g.State, ago(g.LastUsed, now)}
	}
	input := client.ListGrantsInput{User: who, WorkloadName: given(c.Workload), ProviderName: given(c.Provider), State: client.GrantState(strings.ToUpper(strings.ReplaceAll(c.State, "-", "_")))}
	return p.advised(list(t, c.Output, columns("GRANT", "USER~", "WORKLOAD~", "PROVIDER~", "STATE", "LAST USED"), row,
		"There are no such grants.", first(c.listing, p.grants(ctx, input))), "onbehalf workloads list, and onbehalf providers list,")
}

func (c *connection) grants(ctx context.Context, input client.ListGrantsInput) iter.Seq2[grant, error] {
	pager := client.NewListGrantsPaginator(c.own, &input)
	return pages(func() (items []grant, more bool, err error) {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, false, err
		}
		for i := range page.Grants {
			items = append(items, grantOf(&page.Grants[i]))
		}
		return items, pager.HasMorePages(), nil
	})
}

type grantsShowCmd struct {
	Grant string `arg:"" name:"grant" help:"Id of the grant."`
	platform
}

// Run shows it.
func (c grantsShowCmd) Run(ctx context.Context, t *terminal) error {
	p, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	found, err := p.own.GetGrant(ctx, &client.GetGrantInput{GrantId: &c.Grant})
	if err != nil {
		return p.advised(err, grantsList)
	}
	g := grantOf(found.Grant)
	now := time.Now()
	failures, renewed := "", "by itself"
	if g.RefreshFailures > 0 {
		failures = strconv.Itoa(int(g.RefreshFailures)) + " in a row; tried again " + ago(g.NextRefresh, now)
	}
	if !g.Refreshable {
		renewed = "only by the user: there is no refresh token"
	}
	used := exactly(g.LastUsed, now)
	if used == "" {
		used = "never"
	}
	return show(t, c.Output, g, field{"Grant", g.ID}, field{"User", g.User.String()}, field{"Workload", g.Workload}, field{"Provider", g.at()}, field{"State", g.State},
		field{"Asked for", lines(g.RequestedScopes)}, field{"Granted", lines(g.GrantedScopes)}, field{"Resources", lines(g.Resources)}, field{"Audiences", lines(g.Audiences)},
		field{"Renewed", renewed}, field{"Failed renewals", failures}, field{"Created", exactly(g.Created, now)}, field{"Token since", exactly(g.Refreshed, now)},
		field{"Token until", exactly(g.Expires, now)}, field{"Last used", used})
}

type grantsRevokeCmd struct {
	among
	Grants []string `arg:"" name:"grant" optional:"" help:"Ids of grants."`
	All    bool     `name:"all" help:"All of the user's, at any workload and provider that is not excluded by --workload or --provider."`
	Yes    bool     `name:"yes" help:"Do not ask."`
	platform
}

// Help is shown below the flags.
func (grantsRevokeCmd) Help() string {
	return `Examples:
  onbehalf grants revoke 5H7NQ2KXVTB3Z6WD
  onbehalf grants revoke --user ada --all
  onbehalf grants revoke --user ada --all --provider google --yes
The tokens are gone here at once. The provider is told, too, where it can be.`
}

// revoked is a grant that was taken back, in JSON.
type revoked struct {
	ID         string `json:"id"`
	Workload   string `json:"workload,omitempty"`
	Provider   string `json:"provider,omitempty"`
	Account    string `json:"accountLabel,omitempty"`
	AtProvider string `json:"providerRevocation"`
}

// Run takes them back.
func (c grantsRevokeCmd) Run(ctx context.Context, t *terminal) error {
	who, err := c.named()
	switch {
	case err != nil:
		return err
	case len(c.Grants) == 0 && !c.All:
		return usageError{hinted{errors.New("say which: ids of grants, or --user X --all"), grantsList + " shows what there is"}}
	case len(c.Grants) > 0 && (c.All || who != nil || c.Workload != "" || c.Provider != ""):
		return usageError{errors.New("ids of grants, or --user X --all: not both")}
	case c.All && who == nil:
		return usageError{errors.New("--all is all of one user's: --user is missing")}
	}
	p, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	items := p.revoke(ctx, c.Grants)
	if c.All {
		if items, err = c.all(ctx, t, p, who); err != nil {
			return p.advised(err, grantsList)
		}
	}
	told := map[string]string{"REVOKED": "revoked there, too", "UNSUPPORTED": "cannot be told", "FAILED": "could not be told: the user can remove the access there"}
	row := func(r revoked) []string {
		at := told[r.AtProvider]
		if at == "" {
			at = r.AtProvider
		}
		return []string{r.ID, r.Workload, grant{Provider: r.Provider, Account: r.Account}.at(), at}
	}
	return p.advised(list(t, c.Output, columns("REVOKED", "WORKLOAD~", "PROVIDER~", "AT THE PROVIDER"), row, "There were no such grants.", items), grantsList)
}

// all asks, after it has said of how many it is, and revokes.
func (c grantsRevokeCmd) all(ctx context.Context, t *terminal, p *connection, who *client.EndUser) (iter.Seq2[revoked, error], error) {
	count := 0
	for _, err := range p.grants(ctx, client.ListGrantsInput{User: who, WorkloadName: given(c.Workload), ProviderName: given(c.Provider)}) {
		if err != nil {
			return nil, err
		}
		count++
	}
	if count > 0 {
		if err := t.sure(ctx, c.Yes, fmt.Sprintf("Revoke %d grants of %s?", count, userOf(who))); err != nil {
			return nil, err
		}
	}
	return pages(func() (items []revoked, more bool, err error) {
		answer, err := p.own.RevokeUserGrants(ctx, &client.RevokeUserGrantsInput{User: who, WorkloadName: given(c.Workload), ProviderName: given(c.Provider)})
		if err != nil {
			return nil, false, err
		}
		for _, r := range answer.RevokedGrants {
			items = append(items, revoked{aws.ToString(r.GrantId), aws.ToString(r.WorkloadName), aws.ToString(r.ProviderName), aws.ToString(r.AccountLabel), string(r.ProviderRevocation)})
		}
		return items, aws.ToBool(answer.Remaining) && len(items) > 0, nil
	}), nil
}

// revoke takes back one after the other; the first that fails ends it.
func (c *connection) revoke(ctx context.Context, ids []string) iter.Seq2[revoked, error] {
	return func(yield func(revoked, error) bool) {
		for _, id := range ids {
			r := revoked{ID: id}
			if found, err := c.own.GetGrant(ctx, &client.GetGrantInput{GrantId: &id}); err == nil { // who may revoke may not be one who may read
				g := grantOf(found.Grant)
				r.Workload, r.Provider, r.Account = g.Workload, g.Provider, g.Account
			}
			answer, err := c.own.RevokeGrant(ctx, &client.RevokeGrantInput{GrantId: &id})
			if err == nil {
				r.AtProvider = string(answer.ProviderRevocation)
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}
