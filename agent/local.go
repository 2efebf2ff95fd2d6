package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
)

// workload is who asks.
type workload struct {
	token Secret
	local localIdentity // zero where the token came with the context
}

// localIdentity is the content of .agentcore.json, byte for byte as the Python
// package writes it, so that both can work in one folder.
type localIdentity struct {
	Workload string `json:"workload_identity_name"`
	User     string `json:"user_id"`
}

const localFile = ".agentcore.json"

// whoAmI finds the workload token: in the context, else that of local development.
func (c *Client) whoAmI(ctx context.Context) (workload, error) {
	if token, err := WorkloadToken(ctx); err == nil {
		return workload{token: token}, nil
	}
	if os.Getenv("DOCKER_CONTAINER") == "1" { // set where a runtime hosts the agent
		return workload{}, &Error{Op: "workload token", Kind: ErrNoWorkloadToken, Hint: hintHosted}
	}
	local, err := c.localIdentity(ctx)
	if err != nil {
		return workload{}, err
	}
	me := workload{local: local}
	out, err := c.data.GetWorkloadAccessTokenForUserId(ctx, &bedrockagentcore.GetWorkloadAccessTokenForUserIdInput{WorkloadName: &local.Workload, UserId: &local.User})
	if err != nil {
		return workload{}, explain("workload token", "", me, "", err)
	}
	me.token = NewSecret(aws.ToString(out.WorkloadAccessToken))
	return me, nil
}

// making lets one goroutine of the process at a time make an identity.
var making sync.Mutex

// localIdentity reads the file, or makes the identity and the file.
func (c *Client) localIdentity(ctx context.Context) (localIdentity, error) {
	making.Lock()
	defer making.Unlock()
	file := c.LocalFile
	if file == "" {
		file = localFile
	}
	known, err := readLocal(file)
	if err != nil || known.Workload != "" && known.User != "" {
		return known, err
	}
	// The file comes first: an identity that cannot be remembered would be made again by every call.
	draft, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return known, localProblem("the file cannot be written", err)
	}
	defer os.Remove(draft.Name())
	defer draft.Close()
	made := known
	if made.Workload == "" {
		name := "workload-" + eightHex()
		out, err := c.control.CreateWorkloadIdentity(ctx, &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: &name, AllowedResourceOauth2ReturnUrls: []string{}})
		if err != nil {
			return known, explain("workload token", "", workload{}, "", err)
		}
		made.Workload = aws.ToString(out.Name)
	}
	if made.User == "" {
		made.User = eightHex()
	}
	content, err := json.MarshalIndent(made, "", "  ")
	if err == nil {
		_, err = draft.Write(content)
	}
	if err = errors.Join(err, draft.Close()); err == nil {
		if known == (localIdentity{}) {
			if os.Link(draft.Name(), file) == nil {
				return made, nil
			}
			if other, err := readLocal(file); err == nil && other.Workload != "" && other.User != "" {
				return other, nil // another process was faster
			}
		}
		err = os.Rename(draft.Name(), file)
	}
	if err != nil {
		return known, localProblem("the file cannot be written", err)
	}
	return made, nil
}

// readLocal answers the zero identity where there is no file.
func readLocal(file string) (known localIdentity, err error) {
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return known, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &known)
	}
	if err != nil {
		return localIdentity{}, localProblem("the file cannot be read", err)
	}
	return known, nil
}

func localProblem(detail string, err error) *Error {
	return &Error{Op: "workload token", Kind: ErrNoWorkloadToken, Detail: detail, Hint: hintLocalFile, Err: err}
}

func eightHex() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
