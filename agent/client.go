package agent

import (
	"context"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
)

// Client gets tokens and keys with a configuration of its own. Most programs
// need none: the functions of this package use [Default]. It is safe for
// concurrent use once its fields are set.
type Client struct {
	// LocalFile is where local development remembers who the agent is.
	// Empty means .agentcore.json in the working directory.
	LocalFile string

	data    *bedrockagentcore.Client
	control *bedrockagentcorecontrol.Client
}

// NewClient makes a Client of an AWS configuration. Bodies are never logged, whatever
// the configuration's ClientLogMode says, because they are made of secrets.
func NewClient(c aws.Config) *Client {
	c = c.Copy()
	c.ClientLogMode.ClearRequestWithBody()
	c.ClientLogMode.ClearResponseWithBody()
	return &Client{data: bedrockagentcore.NewFromConfig(c), control: bedrockagentcorecontrol.NewFromConfig(c)}
}

var standard struct {
	sync.Mutex
	client *Client
}

// Default is the client of the standard configuration chain: environment, shared
// files, container and instance roles. It is made when it is first needed; a
// chain that fails then is tried again the next time.
func Default(ctx context.Context) (*Client, error) {
	standard.Lock()
	defer standard.Unlock()
	if standard.client != nil {
		return standard.client, nil
	}
	c, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, &Error{Op: "configuration", Kind: ErrCredentials, Hint: hintCredentials, Err: err}
	}
	if c.Region == "" {
		return nil, &Error{Op: "configuration", Kind: ErrInvalid, Detail: "no region is set", Hint: hintRegion}
	}
	standard.client = NewClient(c)
	return standard.client, nil
}

func clientOr(ctx context.Context, c *Client) (*Client, error) {
	if c != nil {
		return c, nil
	}
	return Default(ctx)
}
