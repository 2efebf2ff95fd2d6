package demoidp

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"
)

//go:embed pages
var files embed.FS

var templates = template.Must(template.ParseFS(files, "pages/*.html"))

// A page's form leads to the client and from there to wherever the client sends
// the browser next; browsers hold form-action against all of these hops, which
// cannot be known here. So forms may lead to any web address (and to the
// scheme of the client's own redirect URI), and what a form is comes from our
// templates alone.
const strictPolicy = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action "

type scopeLine struct {
	Scope   string
	Meaning string
}

type pageData struct {
	Title   string
	Request string
	Client  string
	Host    string
	Issuer  string
	Person  Person
	People  []Person
	Scopes  []scopeLine
	Message string
}

func (p *Provider) showSignIn(w http.ResponseWriter, id string, q *request) {
	p.show(w, http.StatusOK, "signin.html", formActions(q), pageData{
		Title: "Choose an account", Request: id, Client: q.client.Name, Host: hostOf(q.redirect), People: p.people,
	})
}

func (p *Provider) showConsent(w http.ResponseWriter, id string, q *request) {
	person, _ := p.person(q.person)
	data := pageData{Title: "Allow access?", Request: id, Client: q.client.Name, Host: hostOf(q.redirect), Person: person}
	for _, scope := range q.scopes {
		data.Scopes = append(data.Scopes, scopeLine{scope, p.scopes[scope]})
	}
	if q.offline && p.scopes["offline_access"] != "" && !q.asks("offline_access") {
		data.Scopes = append(data.Scopes, scopeLine{"access_type=offline", p.scopes["offline_access"]})
	}
	p.show(w, http.StatusOK, "consent.html", formActions(q), data)
}

func (q *request) asks(scope string) bool {
	for _, one := range q.scopes {
		if one == scope {
			return true
		}
	}
	return false
}

func (p *Provider) problemPage(w http.ResponseWriter, status int, title, message string) {
	p.show(w, status, "problem.html", "'none'", pageData{Title: title, Message: message})
}

func (p *Provider) home(w http.ResponseWriter, r *http.Request) {
	data := pageData{Title: "Nothing to do here", Issuer: p.issuer}
	if s, ok := p.sessionOf(r, p.now()); ok {
		data.Person, _ = p.person(s.person)
	}
	p.show(w, http.StatusOK, "home.html", "'none'", data)
}

func (p *Provider) show(w http.ResponseWriter, status int, name, formAction string, data pageData) {
	var page bytes.Buffer
	if err := templates.ExecuteTemplate(&page, name, data); err != nil {
		http.Error(w, "The page cannot be shown.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", strictPolicy+formAction)
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes())
}

func formActions(q *request) string {
	actions := "'self' http: https:"
	if u, err := url.Parse(q.redirect); err == nil && u.Scheme != "http" && u.Scheme != "https" {
		actions += " " + u.Scheme + ":"
	}
	return actions
}

// hostOf is where the person goes next, as a person reads it.
func hostOf(redirect string) string {
	u, err := url.Parse(redirect)
	if err != nil || u.Host == "" {
		scheme, _, _ := strings.Cut(redirect, ":")
		return scheme + " (an app on this device)"
	}
	return u.Host
}

func asset(name, kind string) http.HandlerFunc {
	data, err := files.ReadFile("pages/" + name)
	if err != nil {
		panic(err) // embedded: cannot be missing in a program that compiled its tests
	}
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Cache-Control", "max-age=300")
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(data))
	}
}
