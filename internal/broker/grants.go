package broker

import (
	"context"
	"encoding/json"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/identity"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/vault"
)

const (
	grantsDefault = 50 // of a page, where maxResults is not given
	// mostRead bounds the rows that one page reads to find what fits a state or what
	// the caller may see; the page is then shorter, and the next one goes on from there.
	mostRead = 1000
	// mostWorkloads bounds, likewise, the workloads that one page of a whole account looks at.
	mostWorkloads = 200
)

// ListGrants answers who holds what, oldest first: of a user, a workload, a
// provider, or of the whole account, workload by workload. What the caller's
// policies deny for a grant's own workload or provider is left out.
func (b *Broker) ListGrants(ctx context.Context, caller principal.Caller, r *api.ListGrantsRequest) (*api.ListGrantsResponse, error) {
	filter, narrow, err := b.grantFilter(ctx, caller.Account, r.User, r.WorkloadName, r.ProviderName)
	if err != nil {
		return nil, err
	}
	if !filter.User.IsZero() {
		gate.Detail(ctx, "grant_user", filter.User.String())
	}
	l := lister{Broker: b, caller: caller, action: api.ListGrants.Action(), state: r.State, limit: grantsDefault, read: mostRead, seen: map[[2]string]bool{}, found: []api.Grant{}}
	if r.MaxResults != nil {
		l.limit = int(*r.MaxResults)
	}
	if l.place, err = openPlace(r.NextToken, filter, r.State); err != nil {
		return nil, err
	}
	if narrow {
		err = l.fill(ctx, filter)
	} else {
		err = l.fillAccount(ctx, caller.Account)
	}
	if err != nil {
		return nil, fault.Wrap(err, "listing grants")
	}
	response := &api.ListGrantsResponse{Grants: l.found}
	if l.more {
		response.NextToken, err = l.place.token(filter, r.State)
	}
	return response, err
}

// GetGrant answers one.
func (b *Broker) GetGrant(ctx context.Context, caller principal.Caller, r *api.GetGrantRequest) (*api.GetGrantResponse, error) {
	response := &api.GetGrantResponse{}
	err := b.db.View(ctx, func(tx *store.Tx) error {
		g, err := b.vault.Get(tx, caller.Account, r.GrantId)
		if err != nil {
			return err
		}
		if g == nil {
			return noGrant(r.GrantId)
		}
		names := newNames(b, tx)
		shown, err := names.show(g)
		response.Grant = &shown
		return err
	})
	return response, fault.Wrap(err, "reading a grant")
}

func noGrant(id string) error {
	return fault.New(fault.NotFound, "Grant %s not found.", id)
}

// SubjectOfGrant is what a call about a grant touches; fault.NotFound when there is none.
func (b *Broker) SubjectOfGrant(ctx context.Context, account, id string) (subject Subject, err error) {
	err = b.db.View(ctx, func(tx *store.Tx) error {
		g, err := b.vault.Get(tx, account, id)
		if err != nil {
			return err
		}
		if g == nil {
			return noGrant(id)
		}
		names := newNames(b, tx)
		workload, provider, err := names.of(g.Key)
		subject = Subject{Account: account, Workload: workload, ProviderARN: api.Oauth2CredentialProviderARN(b.options.Region, account, provider)}
		return err
	})
	return subject, fault.Wrap(err, "looking up a grant")
}

// grantFilter turns names into ids. narrow is false for a whole account.
func (b *Broker) grantFilter(ctx context.Context, account string, user *api.EndUser, workload, provider *string) (f vault.Filter, narrow bool, err error) {
	f.Account = account
	if user != nil {
		if f.User, err = identity.UserOf(user); err != nil {
			return f, false, err
		}
	}
	err = b.db.View(ctx, func(tx *store.Tx) error {
		if workload != nil {
			found, err := b.identity.Named(tx, account, *workload)
			if err != nil {
				return err
			}
			f.WorkloadID = found.ID
		}
		if provider != nil {
			if f.ProviderID, err = b.providerID(tx, account, *provider); err != nil {
				return err
			}
		}
		return nil
	})
	return f, f.WorkloadID != "" || f.ProviderID != "" || !f.User.IsZero(), fault.Wrap(err, "looking up whose grants")
}

// place is where a list goes on: after a grant, and in or after a workload where
// the list is of a whole account. For says which list it is of: it leads nowhere in another.
type place struct {
	Created  int64  `json:"c,omitempty"`
	ID       string `json:"i,omitempty"`
	Workload string `json:"w,omitempty"`
	Ended    bool   `json:"e,omitempty"` // the workload is
	For      string `json:"f"`
}

func listKey(f vault.Filter, state api.GrantState) string {
	return hashed(vault.Key{Account: f.Account, WorkloadID: f.WorkloadID, ProviderID: f.ProviderID, User: f.User}.Lookup() + string(state))[:12]
}

func openPlace(token *string, f vault.Filter, state api.GrantState) (p place, err error) {
	if token == nil {
		return p, nil
	}
	if err := json.Unmarshal([]byte(*token), &p); err != nil || p.For != listKey(f, state) {
		return p, fault.InvalidField("nextToken", "The nextToken is of another list. Repeat the call with the filters that it came from.")
	}
	return p, nil
}

func (p place) token(f vault.Filter, state api.GrantState) (*string, error) {
	p.For = listKey(f, state)
	encoded, err := json.Marshal(p)
	text := string(encoded)
	return &text, fault.Wrap(err, "encoding a place in a list")
}

// lister gathers a page. It asks policy between its transactions and not within
// one, because policy reads in a transaction of its own.
type lister struct {
	*Broker
	caller principal.Caller
	action string
	state  api.GrantState
	limit  int
	read   int // rows that may still be read

	seen  map[[2]string]bool // by workload and provider: may the caller see it
	found []api.Grant
	place place
	more  bool
}

// candidate is a row before it is known whether it goes on the page.
type candidate struct {
	*vault.Grant
	shown  api.Grant
	checks []gate.Check
}

// fill reads on in one index until the page is full or the rows are at an end.
func (l *lister) fill(ctx context.Context, f vault.Filter) error {
	for l.read > 0 {
		want := min(l.read, 100)
		rows, err := l.batch(ctx, f, want)
		if err != nil {
			return err
		}
		for _, c := range rows {
			if len(l.found) == l.limit {
				l.more = true
				return nil
			}
			if err := l.take(ctx, c); err != nil {
				return err
			}
			l.place.Created, l.place.ID = store.Micros(c.Created), c.ID
		}
		l.read -= len(rows)
		if len(rows) < want {
			return nil
		}
	}
	l.more = true // perhaps: the next page may be empty
	return nil
}

func (l *lister) batch(ctx context.Context, f vault.Filter, want int) (rows []candidate, err error) {
	err = l.db.View(ctx, func(tx *store.Tx) error {
		rows = nil
		names := newNames(l.Broker, tx)
		list, err := l.vault.List(tx, f, vault.Place{Created: store.Time(l.place.Created), ID: l.place.ID}, want)
		for _, g := range list {
			if err != nil {
				break
			}
			c := candidate{Grant: g}
			if c.checks, err = names.checks(g.Key, l.action); err == nil {
				c.shown, err = names.show(g)
			}
			rows = append(rows, c)
		}
		return err
	})
	return rows, err
}

// fillAccount goes through the workloads of an account, in the order of their ids.
func (l *lister) fillAccount(ctx context.Context, account string) error {
	var ids []string
	err := l.db.View(ctx, func(tx *store.Tx) (err error) {
		ids, err = l.identity.IDsAfter(tx, account, l.place.Workload, mostWorkloads)
		return err
	})
	if err != nil {
		return err
	}
	all := len(ids) < mostWorkloads
	if l.place.Workload != "" && !l.place.Ended {
		ids = append([]string{l.place.Workload}, ids...)
	} else {
		l.place.Created, l.place.ID = 0, ""
	}
	for i, id := range ids {
		if i > 0 {
			l.place.Created, l.place.ID = 0, ""
		}
		l.place.Workload, l.place.Ended = id, false
		if err := l.fill(ctx, vault.Filter{Account: account, WorkloadID: id}); err != nil || l.more {
			return err
		}
		l.place.Ended = true
	}
	l.more = !all
	return nil
}

// take adds a grant to the page, if it has the state and the caller may see it.
func (l *lister) take(ctx context.Context, c candidate) error {
	if l.state != "" && c.shown.State != l.state {
		return nil
	}
	pair := [2]string{c.WorkloadID, c.ProviderID}
	visible, known := l.seen[pair]
	if !known {
		err := l.gate.May(ctx, l.caller, c.checks...)
		if err != nil && !fault.Is(err, fault.Denied) {
			return err
		}
		visible = err == nil
		l.seen[pair] = visible
	}
	if visible {
		l.found = append(l.found, c.shown)
	}
	return nil
}

// names finds what ids are called, each once per transaction.
type names struct {
	b         *Broker
	tx        *store.Tx
	workloads map[string]principal.Workload
	providers map[string]string
}

func newNames(b *Broker, tx *store.Tx) *names {
	return &names{b: b, tx: tx, workloads: map[string]principal.Workload{}, providers: map[string]string{}}
}

func (n *names) of(k vault.Key) (workload principal.Workload, provider string, err error) {
	workload, known := n.workloads[k.WorkloadID]
	if !known {
		found, err := n.b.identity.Get(n.tx, k.Account, k.WorkloadID)
		if err != nil {
			return workload, "", err
		}
		workload = found.Workload
		n.workloads[k.WorkloadID] = workload
	}
	if provider, known = n.providers[k.ProviderID]; !known {
		found, err := n.b.providerByID(n.tx, k.Account, k.ProviderID)
		if err != nil {
			return workload, "", err
		}
		provider = found.Name
		n.providers[k.ProviderID] = provider
	}
	return workload, provider, nil
}

// checks asks whether an action may touch a key's own workload and provider.
func (n *names) checks(k vault.Key, action string) ([]gate.Check, error) {
	workload, provider, err := n.of(k)
	return []gate.Check{
		{Action: action, Resource: workload.ARN},
		{Action: action, Resource: api.Oauth2CredentialProviderARN(n.b.options.Region, k.Account, provider)},
	}, err
}

// show is the grant for people: everything but what opens something.
func (n *names) show(g *vault.Grant) (api.Grant, error) {
	workload, provider, err := n.of(g.Key)
	if err != nil {
		return api.Grant{}, err
	}
	shown := api.Grant{
		GrantId: g.ID, WorkloadName: workload.Name, ProviderName: provider, User: shownUser(g.User),
		RequestedScopes: g.Asked, GrantedScopes: g.Granted, Resources: g.Resources, Audiences: g.Audiences,
		State: grantState(g, n.tx.Now), Refreshable: g.HasRefresh,
		CreatedAt: api.ISO(g.Created), RefreshedAt: api.ISO(g.RefreshedAt), ExpiresAt: api.ISO(g.Expiry), LastUsedAt: api.ISO(g.LastUsed),
		NextRefreshAt: api.ISO(g.NextRefresh),
	}
	if g.Label != "" {
		shown.AccountLabel = &g.Label
	}
	if g.Failures > 0 {
		failures := int32(g.Failures)
		shown.RefreshFailures = &failures
	}
	return shown, nil
}

func shownUser(u principal.User) *api.EndUser {
	if u.ID != "" {
		return &api.EndUser{UserId: &u.ID}
	}
	return &api.EndUser{Issuer: &u.Issuer, Subject: &u.Subject}
}

// grantState is the same question that use asks, without acting on the answer.
func grantState(g *vault.Grant, now time.Time) api.GrantState {
	switch {
	case g.State == vault.NeedsConsent || g.Expired(now) && !g.HasRefresh:
		return api.GrantStateNeedsConsent
	case g.Expired(now):
		return api.GrantStateExpired
	}
	return api.GrantStateActive
}
