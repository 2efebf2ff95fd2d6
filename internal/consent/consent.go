// Package consent is what a person sees of the OAuth front channel: the page
// that says who asks and what for, and the pages that say why it did not work.
//
//	agent's link ── /identities/oauth2/authorize ──▶ our page ── button ──▶ provider
//	provider ── /identities/oauth2/callback/{id} ──▶ the application's return URL
//	                        or, without one: /connect/done ──▶ issuer ──▶ /connect/callback/{id} ──▶ /connect/done
//
// It decides nothing: broker does, behind the gate. It turns what broker says
// into pages, cookies and redirects.
//
// Invariant: looking spends nothing. Each opening of a link is an attempt of its
// own, so previews, reloads and a second tab do no harm; and each page works
// without JavaScript, loads nothing, frames nowhere and sends no referrer.
package consent

import (
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// Options of the pages.
type Options struct {
	PublicURL string           // scheme and host that browsers use; https makes cookies Secure. Other hosts are refused
	Log       *slog.Logger     // gets the causes that pages do not show; nil means slog.Default
	Now       func() time.Time // for "another 9 minutes"; nil means time.Now
}

type pages struct {
	gate   *gate.Gate
	broker *broker.Broker
	host   string
	public string
	secure bool
	log    *slog.Logger
	now    func() time.Time
}

// New serves GET /identities/oauth2/authorize, /identities/oauth2/callback/{id}
// and the hosted page, /connect/.
func New(g *gate.Gate, b *broker.Broker, o Options) http.Handler {
	p := &pages{gate: g, broker: b, public: strings.TrimSuffix(o.PublicURL, "/"), log: o.Log, now: o.Now}
	if u, err := url.Parse(o.PublicURL); err == nil {
		p.host, p.secure = u.Host, u.Scheme == "https"
	}
	if p.log == nil {
		p.log = slog.Default()
	}
	if p.now == nil {
		p.now = time.Now
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+broker.AuthorizePath, p.authorize)
	mux.HandleFunc("GET "+broker.CallbackPath+"{id}", p.callback)
	mux.HandleFunc("GET "+broker.CallbackPath+"{id}"+broker.ContinuePath, p.goOn)
	mux.HandleFunc("GET "+broker.DonePath, p.connect)
	mux.HandleFunc("GET "+broker.SignedInPath+"{id}", p.signedIn)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			p.show(w, r, wrongMethod)
			return
		}
		p.show(w, r, notFound)
	})
	return p.guarded(mux)
}

// guarded sets what every answer has, and refuses names that are not ours: a page
// elsewhere must not reach a server on loopback by a name that it controls.
func (p *pages) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Frame-Options", "DENY")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Robots-Tag", "noindex")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		if !strings.EqualFold(r.Host, p.host) {
			p.show(w, r, wrongHost)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// addressOf is the client's address for the limits.
func addressOf(r *http.Request) netip.Addr {
	if known := principal.RequestOf(r.Context()).Address; known.IsValid() {
		return known
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr().Unmap()
}

// fail shows the page for an error and gives the log what the page keeps back.
func (p *pages) fail(w http.ResponseWriter, r *http.Request, err error) {
	p.logged(r, err)
	p.show(w, r, problemOf(err))
}

func (p *pages) logged(r *http.Request, err error) {
	e := fault.Of(err)
	level := slog.LevelDebug
	if e.Kind == fault.Internal || e.Kind == fault.Unavailable {
		level = slog.LevelError
	}
	p.log.Log(r.Context(), level, "consent page failed", "request_id", principal.RequestOf(r.Context()).ID, "path", r.URL.Path, "kind", e.Kind.String(), "error", err)
}

// single is a query parameter that must not come twice: which of the two another
// program reads is anybody's guess.
func single(query url.Values, name string) (string, bool) {
	values := query[name]
	if len(values) > 1 {
		return "", false
	}
	if len(values) == 0 {
		return "", true
	}
	return values[0], len(values[0]) <= parameterLimit
}

const parameterLimit = 4096 // bytes; providers' codes and states stay well below
