package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// Help is kong's, with two things added: each command has an example, and the
// program without arguments says what it is for, by task.

// withExamples puts the examples of the fields' tags below the commands' help. A
// command with more to say has a Help method instead.
func withExamples(node *kong.Node) {
	if node.Tag != nil && node.Tag.Has("example") {
		examples := strings.Split(node.Tag.Get("example"), "\n")
		title := "Example:\n  "
		if len(examples) > 1 {
			title = "Examples:\n  "
		}
		if node.Detail != "" {
			title = "\n" + title
		}
		node.Detail += title + strings.Join(examples, "\n  ")
	}
	for _, child := range node.Children {
		withExamples(child)
	}
}

// firstSteps are what somebody does who has just installed the program.
const firstSteps = `Onbehalf lets AI agents act on behalf of people without holding their
passwords. It speaks the API of Amazon Bedrock AgentCore.

Try it, in two terminals:
  onbehalf serve --dev            the platform, with a demo identity provider
  eval "$(onbehalf env)"          AWS SDKs and the AWS CLI now talk to it
  onbehalf workloads create my-agent
`

// overview is what the program says of itself when it is asked nothing.
func overview(out io.Writer, model *kong.Application) error {
	var text strings.Builder
	text.WriteString(firstSteps)
	var groups []string
	members := map[string][]*kong.Node{}
	width := 0
	for _, child := range model.Children {
		if child.Hidden || child.Type != kong.CommandNode {
			continue
		}
		title := "More"
		if child.Group != nil {
			title = child.Group.Title
		}
		if members[title] == nil {
			groups = append(groups, title)
		}
		members[title] = append(members[title], child)
		width = max(width, len(child.Name))
	}
	for _, title := range groups {
		fmt.Fprintf(&text, "\n%s\n", title)
		for _, child := range members[title] {
			fmt.Fprintf(&text, "  %-*s  %s\n", width, child.Name, child.Help)
		}
	}
	text.WriteString("\nonbehalf COMMAND --help shows flags and examples.\n")
	_, err := io.WriteString(out, text.String())
	return err
}
