package main

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
)

// page is what a person sees at the end of a consent.
type page struct {
	Title, Text, Note string
	Bad               bool // it did not work
	Declined          bool // it ended as the person wanted, and not in a yes
}

var (
	//go:embed pages/page.html
	pageSource string
	//go:embed pages/page.css
	pageStyle string

	pageTemplate = template.Must(template.New("page").Parse(pageSource))
	// Only our own stylesheet runs: no script, no image, no frame, no form.
	pagePolicy = func() string {
		sum := sha256.Sum256([]byte(pageStyle))
		return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	}()
)

func (s *OAuth2CallbackServer) page(w http.ResponseWriter, status int, p page) {
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = pageTemplate.Execute(w, struct {
		page
		Style template.CSS
	}{p, template.CSS(pageStyle)})
}
