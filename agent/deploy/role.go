package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// An agent runs under a role: it is what the platform's policies are about. Launch
// makes one where the settings name none, marked as made by us; Destroy deletes
// what is marked so and nothing else.

// Tags of a role that Launch made.
const (
	madeByTag = "onbehalf:made-by"
	madeBy    = "onbehalf agent"
	agentTag  = "onbehalf:agent"
)

// RoleName is the role that the settings name, or the one that Launch makes.
func (a *Agent) RoleName() string {
	if a.Role == "" {
		return "agent-" + a.Name
	}
	return a.Role[strings.LastIndex(a.Role, "/")+1:]
}

// PolicyName is what the agent's policy is called at its role.
func (a *Agent) PolicyName() string { return "onbehalf-agent-" + a.Name }

// role is what IAM says of one.
type role struct {
	ARN  string `xml:"Arn"`
	Tags []struct {
		Key, Value string
	} `xml:"Tags>member"`
}

// ours reports whether Launch made the role for this agent.
func (r role) ours(a *Agent) bool {
	tags := map[string]string{}
	for _, tag := range r.Tags {
		tags[tag.Key] = tag.Value
	}
	return tags[madeByTag] == madeBy && tags[agentTag] == a.Name
}

func (c *Client) role(ctx context.Context, name string) (role, error) {
	var answer struct {
		Role role `xml:"GetRoleResult>Role"`
	}
	err := c.query(ctx, iam, "GetRole", map[string]string{"RoleName": name}, &answer)
	return answer.Role, err
}

// MakeRole answers the ARN of the agent's role, and makes the role where the
// settings name none: one that only this agent's runtimes can take on, and that
// may do nothing until it gets a policy.
func (c *Client) MakeRole(ctx context.Context, a *Agent) (arn string, made bool, err error) {
	if strings.HasPrefix(a.Role, "arn:") {
		return a.Role, false, nil
	}
	found, err := c.role(ctx, a.RoleName())
	switch {
	case err == nil && a.Role == "" && !found.ours(a):
		return "", false, fmt.Errorf("the role %s is there already and was not made for this agent: name the role that the agent is to have (role: in %s)", a.RoleName(), File)
	case err == nil:
		return found.ARN, false, nil
	case !isMissing(err):
		return "", false, err
	case a.Role != "":
		return "", false, fmt.Errorf("there is no role %s: make it (onbehalf roles create %s), or leave it out of %s and one is made", a.RoleName(), a.RoleName(), File)
	}
	account, err := c.account(ctx)
	if err != nil {
		return "", false, err
	}
	trust, err := trustPolicy(c.settings.Region, account, a.Name)
	if err != nil {
		return "", false, err
	}
	var answer struct {
		Role role `xml:"CreateRoleResult>Role"`
	}
	err = c.query(ctx, iam, "CreateRole", map[string]string{
		"RoleName": a.RoleName(), "AssumeRolePolicyDocument": trust, "Description": "Execution role of the agent " + a.Name,
		"Tags.member.1.Key": madeByTag, "Tags.member.1.Value": madeBy, "Tags.member.2.Key": agentTag, "Tags.member.2.Value": a.Name,
	}, &answer)
	return answer.Role.ARN, err == nil, err
}

// trustPolicy lets the runtimes of one agent take the role on: what the SDK's
// documentation shows, with this agent's name in it.
func trustPolicy(region, account, name string) (string, error) {
	text, err := json.Marshal(object{"Version": "2012-10-17", "Statement": []object{{
		"Effect": "Allow", "Principal": object{"Service": "bedrock-agentcore.amazonaws.com"}, "Action": "sts:AssumeRole",
		"Condition": object{
			"StringEquals": object{"aws:SourceAccount": account},
			"ArnLike":      object{"aws:SourceArn": fmt.Sprintf("arn:aws:bedrock-agentcore:%s:%s:runtime/%s-*", region, account, name)},
		},
	}}})
	return string(text), err
}

// account asks whose key it is that signs.
func (c *Client) account(ctx context.Context) (string, error) {
	var answer struct {
		Account string `xml:"GetCallerIdentityResult>Account"`
	}
	if err := c.query(ctx, sts, "GetCallerIdentity", nil, &answer); err != nil {
		return "", err
	}
	if answer.Account == "" {
		return "", fmt.Errorf("%s does not say whose key this is", c.endpoint)
	}
	return answer.Account, nil
}

// PutPolicy attaches a policy document to the agent's role, as it stands, in place
// of the one before. The role is made where there is none.
func (c *Client) PutPolicy(ctx context.Context, a *Agent, document string) (roleARN string, err error) {
	arn, made, err := c.MakeRole(ctx, a)
	if err != nil {
		return "", err
	}
	if made {
		c.progress.say("role", arn+" (made)")
	}
	return arn, c.query(ctx, iam, "PutRolePolicy", map[string]string{"RoleName": a.RoleName(), "PolicyName": a.PolicyName(), "PolicyDocument": document}, nil)
}

// deleteRole takes our policy from the agent's role, and deletes the role where it is ours.
func (c *Client) deleteRole(ctx context.Context, a *Agent) (deleted bool, err error) {
	found, err := c.role(ctx, a.RoleName())
	if isMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !found.ours(a) {
		return false, c.deletePolicy(ctx, a.RoleName(), a.PolicyName())
	}
	var answer struct {
		Names []string `xml:"ListRolePoliciesResult>PolicyNames>member"`
	}
	for { // a page at a time: what is deleted is not listed again
		answer.Names = nil
		if err := c.query(ctx, iam, "ListRolePolicies", map[string]string{"RoleName": a.RoleName()}, &answer); err != nil {
			return false, err
		}
		if len(answer.Names) == 0 {
			break
		}
		for _, name := range answer.Names {
			if err := c.deletePolicy(ctx, a.RoleName(), name); err != nil {
				return false, err
			}
		}
	}
	err = c.query(ctx, iam, "DeleteRole", map[string]string{"RoleName": a.RoleName()}, nil)
	return err == nil, err
}

func (c *Client) deletePolicy(ctx context.Context, role, name string) error {
	err := c.query(ctx, iam, "DeleteRolePolicy", map[string]string{"RoleName": role, "PolicyName": name}, nil)
	if isMissing(err) {
		return nil
	}
	return err
}
