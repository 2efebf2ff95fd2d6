package deploy_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/onbehalf/onbehalf/agent/deploy"
)

// An agent from its folder to its answer: what `onbehalf agent configure`, `launch`
// and `invoke` do.
func Example() {
	ctx := context.Background()
	settings, err := config.LoadDefaultConfig(ctx) // with what `onbehalf env` prints in the environment
	if err != nil {
		log.Fatal(err)
	}
	platform, err := deploy.NewClient(settings, func(o *deploy.Options) {
		o.Progress = func(p deploy.Progress) { fmt.Fprintln(os.Stderr, p.Step, p.Text) }
	})
	if err != nil {
		log.Fatal(err)
	}

	agent := deploy.New("my-agent", "")
	agent.Name = "my_agent"
	if err := agent.Configure(); err != nil { // language, entry point, requirements: onbehalf-agent.yaml, which deploy.Load reads the next time
		log.Fatal(err)
	}
	if _, err := platform.Launch(ctx, agent, deploy.LaunchOptions{}); err != nil {
		log.Fatal(err)
	}
	answer, err := platform.Invoke(ctx, agent, deploy.Invocation{Payload: deploy.Payload("How is the weather?"), UserID: "ada"})
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(os.Stdout, answer.Body); err != nil {
		log.Fatal(err)
	}
}
