// Command onbehalf lets AI agents act on behalf of people without holding their
// passwords: one server that speaks the API of Amazon Bedrock AgentCore.
package main

import "os"

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
