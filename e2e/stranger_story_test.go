package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/store"
)

// A link in the wrong hands. Ada asks; Grace, at a browser of her own, opens the
// link, signs in as herself and allows. If that gave a token, Ada's agent would
// from then on read Grace's account, and greet Ada as Grace.
func TestWrongPerson(t *testing.T) {
	t.Parallel()
	ada, grace := openBrowser(t), openBrowser(t)
	idp := startProvider(t)
	p := startPlatform(t, idp.flags()...)
	h := startHello(t, p.program(), "--backend", p.url, "--demo-provider", idp.url, "--auto-consent=false")
	link := h.link()

	grace.consent(link, controlGrace)
	grace.reads(pageStranger)
	for _, want := range []string{"Grace Hopper", "Nothing was shared", "can still"} {
		if !strings.Contains(grace.text(), want) {
			t.Errorf("Grace is not told %q:\n%s", want, grace.text())
		}
	}
	grace.look("10-someone-else")
	grace.flawless(403)
	if got := idp.redeemed(); got != 0 {
		t.Errorf("%d codes of Grace's were redeemed", got)
	}
	if strings.Contains(h.out.String(), "Hello, ") {
		t.Fatalf("the agent greets after a stranger's consent:\n%s", h.out)
	}
	wrong := p.audited("bedrock-agentcore:CompleteResourceTokenAuth")
	if len(wrong) != 1 {
		t.Fatalf("%d completions are in the audit instead of one", len(wrong))
	}
	if r := wrong[0]; r.Outcome != "denied" || !strings.HasSuffix(r.Detail["came_back"], "grace-hopper") || !strings.HasSuffix(r.Detail["session_user"], "ada-lovelace") ||
		!strings.Contains(r.Detail["session_outcome"], "the code was discarded") {
		t.Errorf("the audit does not tell what Grace did: %+v", r)
	}
	if grants := p.count("grants"); grants != 0 {
		t.Errorf("there are %d grants", grants)
	}

	// The first person goes through with an attempt of her own, while Grace has the link open again.
	grace.open(link)
	grace.reads(pageAsks)
	ada.consent(link, controlAda)
	ada.reads(pageWorked)
	if !strings.Contains(ada.text(), "Ada Lovelace") {
		t.Errorf("Ada is not told who she is signed in as:\n%s", ada.text())
	}
	ada.flawless()
	h.greets("Ada Lovelace")
	if strings.Contains(h.out.String(), "Grace") {
		t.Errorf("Grace is in it:\n%s", h.out)
	}
	if got := idp.redeemed(); got != 1 {
		t.Errorf("%d codes were redeemed, and one person has finished", got)
	}

	// Grace, late, is told that it is over.
	grace.click(controlContinue)
	grace.reads(pageAllow) // the provider knows her by now
	grace.click(controlAllow)
	grace.reads(`^(This link was already used|This link doesn’t work|This link no longer works|There is nothing here)$`)
	grace.flawless(404, 409, 410)
	if got := idp.redeemed(); got != 1 {
		t.Errorf("Grace's late code was redeemed")
	}
}

// A finished return URL is handed on: Ada allowed, and Grace opens the address
// that Ada's browser was sent to. The application asks who sits there.
func TestReturnURLInAnotherBrowser(t *testing.T) {
	t.Parallel()
	grace := openBrowser(t)
	idp := startProvider(t)
	p := startPlatform(t, idp.flags()...)
	h := startHello(t, p.program(), "--backend", p.url, "--demo-provider", idp.url, "--auto-consent=false")
	link := h.link()
	arrival := visitAs(t, idp, "ada-lovelace", link)
	grace.open(arrival)
	grace.reads(pageSignIn)
	grace.click(controlGrace)
	grace.reads(pageStranger)
	grace.flawless(403)
	if got := idp.redeemed(); got != 0 {
		t.Errorf("%d codes were redeemed for the wrong person", got)
	}
	// It was Ada's code that was thrown away: nobody's is ever completed for somebody else. She begins anew.
	ada := openBrowser(t)
	ada.consent(link, controlAda)
	ada.reads(pageWorked)
	h.greets("Ada Lovelace")
}

// audited are the finished acts of this name in the platform's audit, which is proven on the way.
func (p *platform) audited(action string) []audit.Record {
	p.t.Helper()
	var records []audit.Record
	p.inside(func(db *store.DB, log *audit.Log) {
		if _, err := log.Verify(p.t.Context()); err != nil {
			p.t.Fatalf("the audit does not hold: %v", err)
		}
		all, _, err := log.List(p.t.Context(), audit.Query{Account: server.DefaultAccount, Action: action, Limit: 1000})
		if err != nil {
			p.t.Fatal(err)
		}
		for _, r := range all {
			if r.Phase == audit.Done {
				records = append(records, r)
			}
		}
	})
	return records
}

// count is how many rows a table has.
func (p *platform) count(table string) (rows int) {
	p.t.Helper()
	p.inside(func(db *store.DB, _ *audit.Log) {
		err := db.View(p.t.Context(), func(tx *store.Tx) error { return tx.QueryRow(`SELECT count(*) FROM ` + table).Scan(&rows) })
		if err != nil {
			p.t.Fatal(err)
		}
	})
	return rows
}

// inside looks into the platform's data from beside it, running or not.
func (p *platform) inside(look func(*store.DB, *audit.Log)) {
	p.t.Helper()
	ctx := p.t.Context()
	db, err := store.Open(ctx, store.Options{Path: filepath.Join(p.data, "onbehalf.db")})
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			p.t.Error(err)
		}
	}()
	wrapper, err := seal.FileKey(ctx, db, filepath.Join(p.data, "key-encryption-key"))
	if err != nil {
		p.t.Fatal(err)
	}
	keeper, err := seal.NewKeeper(ctx, db, wrapper)
	if err != nil {
		p.t.Fatal(err)
	}
	log, err := audit.New(ctx, db, keeper, "")
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() {
		if err := log.Close(); err != nil {
			p.t.Error(err)
		}
	}()
	look(db, log)
}

// redeemed counts the codes that the platform has sent: sign-ins at the
// application are another client's.
func (p *provider) redeemed() (codes int) {
	for _, request := range p.tokens.heard() {
		if strings.Contains(request, "grant_type=authorization_code") && !strings.Contains(request, "client_id=onbehalf-demo") {
			codes++
		}
	}
	return codes
}
