package consent

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"strconv"
	"time"

	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/principal"
)

//go:embed pages
var files embed.FS

var (
	templates = template.Must(template.ParseFS(files, "pages/*.html"))
	style     = mustRead("pages/style.css")

	// policy lets the page have its one style sheet, named by its hash, and its
	// icon; nothing else is loaded, run, framed or sent. The button is a link,
	// which no form-action holds back.
	policy = "default-src 'none'; style-src 'sha256-" + hashOf(style) + "'; img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)

const contentType = "text/html; charset=utf-8"

func mustRead(name string) string {
	data, err := files.ReadFile(name)
	if err != nil {
		panic(err) // embedded: it is there or the package's tests fail
	}
	return string(data)
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// page is what every template gets.
type page struct {
	Title string
	Style template.CSS
	Body  any
}

type scopeLine struct {
	Meaning string // empty: only the provider knows
	Scope   string
}

type consentBody struct {
	Agent, AgentInitial       string // readable
	Workload                  string // as it is
	Provider, ProviderInitial string
	ProviderHost              string
	ReturnHost                string
	SignInHost                string // of the hosted page
	Label                     string // of one account among several
	Scopes                    []scopeLine
	Remaining                 string
	Expires                   time.Time
	Location                  string
}

func (p *pages) showConsent(w http.ResponseWriter, r *http.Request, a *broker.Attempt, workload principal.Workload) {
	agent, provider := readable(workload, a.WorkloadName), a.ProviderTitle
	if provider == a.ProviderName { // a custom provider has no other title than its name
		provider = readable(principal.Workload{}, provider)
	}
	body := consentBody{
		Agent: agent, AgentInitial: initial(agent), Workload: a.WorkloadName,
		Provider: provider, ProviderInitial: initial(provider), ProviderHost: a.ProviderHost, ReturnHost: a.ReturnHost, SignInHost: a.SignInHost, Label: a.Label,
		Remaining: remaining(a.Expires.Sub(p.now())), Expires: a.Expires.UTC(), Location: a.Location,
	}
	for _, scope := range a.Scopes {
		body.Scopes = append(body.Scopes, scopeLine{scopeMeanings[scope], scope})
	}
	p.render(w, r, http.StatusOK, "consent.html", page{Title: agent + " wants to use your " + provider + " account", Body: body})
}

type problemBody struct {
	problem
	Reference string // the request's id, by which the log has the cause
}

func (p *pages) show(w http.ResponseWriter, r *http.Request, what problem) {
	if what.wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((what.wait+time.Second-1)/time.Second)))
	}
	p.render(w, r, what.Status, "problem.html", page{Title: what.Title, Body: problemBody{what, principal.RequestOf(r.Context()).ID}})
}

func (p *pages) render(w http.ResponseWriter, r *http.Request, status int, name string, data page) {
	data.Style = template.CSS(style) // #nosec: ours, embedded
	var html bytes.Buffer
	if err := templates.ExecuteTemplate(&html, name, data); err != nil {
		p.log.ErrorContext(r.Context(), "a page cannot be rendered", "page", name, "error", err)
		http.Error(w, ourFault.Title, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(html.Bytes()) // the browser has gone: nothing to be done
}
