package main

import (
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/onbehalf/onbehalf/client"
)

// person is whom the flags mean. Without --issuer it is a user id; with it, the subject that this issuer's tokens name.
type person struct {
	User   string `name:"user" placeholder:"ID" help:"The user: an id that an application vouched for; with --issuer, the subject of its tokens." group:"Whose"`
	Issuer string `name:"issuer" placeholder:"URL" help:"Who issues the user's sign-in tokens." group:"Whose"`
}

// named is nil where nobody is.
func (p person) named() (*client.EndUser, error) {
	switch {
	case p.User == "" && p.Issuer != "":
		return nil, usageError{errors.New("--issuer goes with --user, the subject of its tokens")}
	case p.User == "":
		return nil, nil
	case p.Issuer != "":
		return &client.EndUser{Issuer: &p.Issuer, Subject: &p.User}, nil
	}
	return &client.EndUser{UserId: &p.User}, nil
}

// user is a person as a workload names them, or as their sign-in does.
type user struct {
	UserID  string `json:"userId,omitempty"`
	Issuer  string `json:"issuer,omitempty"`
	Subject string `json:"subject,omitempty"`
}

func userOf(u *client.EndUser) user {
	if u == nil {
		return user{}
	}
	return user{aws.ToString(u.UserId), aws.ToString(u.Issuer), aws.ToString(u.Subject)}
}

func (u user) String() string {
	if u.Issuer != "" {
		return u.Subject + " (" + u.Issuer + ")"
	}
	return u.UserID
}
