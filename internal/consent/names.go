package consent

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/onbehalf/onbehalf/internal/principal"
)

// ownedSuffix is what a gateway's or runtime's id adds to the name that its operator chose: "-" and ten characters.
const ownedSuffix = 11

// readable makes a workload's name fit for a headline: "mail-agent-a1b2c3d4e5" of
// a gateway is "Mail agent". The page shows the name itself too.
func readable(w principal.Workload, name string) string {
	if w.Owner != "" && len(name) > ownedSuffix && name[len(name)-ownedSuffix] == '-' {
		name = name[:len(name)-ownedSuffix]
	}
	words := strings.Join(strings.FieldsFunc(name, func(c rune) bool { return c == '-' || c == '_' || c == '.' || unicode.IsSpace(c) }), " ")
	first, size := utf8.DecodeRuneInString(words)
	if size == 0 {
		return name
	}
	return string(unicode.ToUpper(first)) + words[size:]
}

// initial is the letter in the round picture of something that has none.
func initial(name string) string {
	for _, c := range name {
		if unicode.IsLetter(c) || unicode.IsDigit(c) {
			return string(unicode.ToUpper(c))
		}
	}
	return "?"
}

// remaining says how long the link still works, rounded down so that it promises nothing.
func remaining(d time.Duration) string {
	switch minutes := int(d / time.Minute); {
	case minutes > 1:
		return fmt.Sprintf("%d minutes", minutes)
	case minutes == 1:
		return "1 minute"
	default:
		return "less than a minute"
	}
}

// scopeMeanings are the scopes that mean the same wherever they are asked for:
// OpenID Connect's, and those that name their provider themselves. Any other
// scope is shown as it is, because only its provider knows what it opens.
var scopeMeanings = map[string]string{
	"openid":         "Know which account is yours",
	"profile":        "See your name and public profile",
	"email":          "See your email address",
	"address":        "See your postal address",
	"phone":          "See your phone number",
	"offline_access": "Keep this access when you are not there",

	"https://www.googleapis.com/auth/userinfo.profile":         "See your name and public profile",
	"https://www.googleapis.com/auth/userinfo.email":           "See your email address",
	"https://www.googleapis.com/auth/contacts.readonly":        "See your contacts",
	"https://www.googleapis.com/auth/contacts":                 "See and change your contacts",
	"https://www.googleapis.com/auth/calendar.readonly":        "See your calendars",
	"https://www.googleapis.com/auth/calendar.events":          "See and change events in your calendars",
	"https://www.googleapis.com/auth/calendar":                 "See, change and share your calendars",
	"https://www.googleapis.com/auth/gmail.readonly":           "Read your mail",
	"https://www.googleapis.com/auth/gmail.send":               "Send mail as you",
	"https://www.googleapis.com/auth/gmail.modify":             "Read, write and send your mail",
	"https://mail.google.com/":                                 "Read, write, send and delete your mail",
	"https://www.googleapis.com/auth/drive.file":               "See and change the Drive files you open with it",
	"https://www.googleapis.com/auth/drive.readonly":           "See all your Drive files",
	"https://www.googleapis.com/auth/drive":                    "See, change and delete all your Drive files",
	"https://www.googleapis.com/auth/spreadsheets":             "See and change your spreadsheets",
	"https://www.googleapis.com/auth/tasks":                    "See and change your tasks",
	"https://www.googleapis.com/auth/youtube.readonly":         "See your YouTube account",
	"https://www.googleapis.com/auth/directory.readonly":       "See your organisation's directory",
	"https://www.googleapis.com/auth/user.emails.read":         "See all your email addresses",
	"https://www.googleapis.com/auth/user.organization.read":   "See where you work",
	"https://www.googleapis.com/auth/documents.readonly":       "See your documents",
	"https://www.googleapis.com/auth/documents":                "See and change your documents",
	"https://www.googleapis.com/auth/spreadsheets.readonly":    "See your spreadsheets",
	"https://www.googleapis.com/auth/calendar.events.readonly": "See events in your calendars",
	"https://www.googleapis.com/auth/tasks.readonly":           "See your tasks",
}
