// Command onbehalf lets AI agents act on behalf of people without holding their
// passwords: one server that speaks the API of Amazon Bedrock AgentCore.
package main

import (
	"os"

	"github.com/onbehalf/onbehalf/internal/server"
)

func main() {
	server.Init()
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
