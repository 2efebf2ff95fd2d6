// Command openaiagent is an agent that can do simple maths and tell the weather. Its
// model is OpenAI's, or Azure's; the key is in a vault and nowhere else.
//
//	go run . '{"prompt": "What is the weather now?"}'     once, on your machine
//	go run .                                              serves the contract of a runtime
//
// .
//
//	main.go        one question, or the App
//	assistant.go   the conversation: model, tools, model, …
//	model.go       which model, and its key, fetched once
//	tools.go       calculator and weather
//	gateway.go     the tools of an MCP gateway, where GATEWAY_URL names one
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/onbehalf/onbehalf/agent"
)

// Prompt is the payload, here and on the runtime.
type Prompt struct {
	Prompt string `json:"prompt"`
}

func main() {
	log.SetFlags(0)
	assistant := NewAssistant(NewModel(os.Getenv), os.Getenv("GATEWAY_URL"))
	if len(os.Args) < 2 {
		app := agent.New().Entrypoint(assistant.Answer)
		if err := app.Run(); err != nil {
			log.Fatal(err)
		}
		return
	}
	var prompt Prompt
	if err := json.Unmarshal([]byte(os.Args[1]), &prompt); err != nil {
		log.Fatalf(`openaiagent: the argument is no payload like {"prompt": "How much is 2X2?"}: %v`, err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	answer, err := assistant.Answer(ctx, prompt)
	if err != nil {
		stop()
		log.Fatalf("openaiagent: %v", err)
	}
	fmt.Println(answer)
}
