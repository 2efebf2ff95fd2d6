package identity

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

func TestWorkloadIdentityLivesItsLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	made, err := w.CreateWorkloadIdentity(ctx, caller, &api.CreateWorkloadIdentityRequest{
		Name: "agent", AllowedResourceOauth2ReturnUrls: []string{"http://localhost:9090/done", "myapp:done"}, Tags: map[string]string{"team": "blue"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &api.CreateWorkloadIdentityResponse{
		Name:                            "agent",
		WorkloadIdentityArn:             "arn:aws:bedrock-agentcore:us-east-1:000000000000:workload-identity-directory/default/workload-identity/agent",
		AllowedResourceOauth2ReturnUrls: []string{"http://localhost:9090/done", "myapp:done"},
	}
	if diff := cmp.Diff(want, made); diff != "" {
		t.Errorf("create (-want +got):\n%s", diff)
	}
	_, err = w.CreateWorkloadIdentity(ctx, caller, &api.CreateWorkloadIdentityRequest{Name: "agent"})
	wantFault(t, err, fault.Conflict, "already exists")

	w.late.Store(int64(1e9))
	updated, err := w.UpdateWorkloadIdentity(ctx, caller, &api.UpdateWorkloadIdentityRequest{Name: "agent", AllowedResourceOauth2ReturnUrls: []string{}})
	if err != nil || len(updated.AllowedResourceOauth2ReturnUrls) != 0 || !updated.LastUpdatedTime.After(updated.CreatedTime.Time) {
		t.Errorf("an update to no URLs gave %+v, %v", updated, err)
	}
	if _, err := w.UpdateWorkloadIdentity(ctx, caller, &api.UpdateWorkloadIdentityRequest{Name: "agent", AllowedResourceOauth2ReturnUrls: []string{"https://app.example/done"}}); err != nil {
		t.Error(err)
	}
	if _, err := w.UpdateWorkloadIdentity(ctx, caller, &api.UpdateWorkloadIdentityRequest{Name: "agent"}); err != nil {
		t.Error(err)
	}
	shown, err := w.GetWorkloadIdentity(ctx, caller, &api.GetWorkloadIdentityRequest{Name: "agent"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"https://app.example/done"}, shown.AllowedResourceOauth2ReturnUrls); diff != "" {
		t.Errorf("an update without the member changed the list (-want +got):\n%s", diff)
	}
	var stored Identity
	w.update(t, func(tx *store.Tx) (err error) { stored, err = w.named(tx, account, "agent"); return err })
	if diff := cmp.Diff(map[string]string{"team": "blue"}, stored.Tags); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}

	stranger := principal.Caller{Kind: principal.Key, Account: other, Root: true}
	_, err = w.GetWorkloadIdentity(ctx, stranger, &api.GetWorkloadIdentityRequest{Name: "agent"})
	wantFault(t, err, fault.NotFound, "agent not found")
	_, err = w.DeleteWorkloadIdentity(ctx, stranger, &api.DeleteWorkloadIdentityRequest{Name: "agent"})
	wantFault(t, err, fault.NotFound, "agent not found")

	if _, err := w.DeleteWorkloadIdentity(ctx, caller, &api.DeleteWorkloadIdentityRequest{Name: "agent"}); err != nil {
		t.Error(err)
	}
	_, err = w.DeleteWorkloadIdentity(ctx, caller, &api.DeleteWorkloadIdentityRequest{Name: "agent"})
	wantFault(t, err, fault.NotFound, "agent not found")
}

func TestListPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var want, got []string
	for i := range 23 {
		name := fmt.Sprintf("agent-%02d", i)
		want = append(want, name)
		w.create(t, name)
	}
	var next *string
	sizes := []int{}
	for {
		page, err := w.ListWorkloadIdentities(t.Context(), caller, &api.ListWorkloadIdentitiesRequest{NextToken: next})
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(page.WorkloadIdentities))
		for _, item := range page.WorkloadIdentities {
			got = append(got, item.Name)
		}
		if next = page.NextToken; next == nil {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{20, 3}, sizes); diff != "" {
		t.Errorf("page sizes (-want +got):\n%s", diff)
	}
	limit := int32(23)
	page, err := w.ListWorkloadIdentities(t.Context(), caller, &api.ListWorkloadIdentitiesRequest{MaxResults: &limit})
	if err != nil || page.NextToken != nil || len(page.WorkloadIdentities) != 23 {
		t.Errorf("a page that holds all has %d items and next %v, %v", len(page.WorkloadIdentities), page.NextToken, err)
	}
	page, err = w.ListWorkloadIdentities(t.Context(), principal.Caller{Account: other}, &api.ListWorkloadIdentitiesRequest{})
	if err != nil || len(page.WorkloadIdentities) != 0 {
		t.Errorf("another account sees %v, %v", page.WorkloadIdentities, err)
	}
}

func TestReturnURLsThatABrowserMustNotOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, url := range []string{
		"javascript:alert(1)", "JavaScript:alert(1)", "data:text/html,x", "file:///etc/passwd", "https:///nowhere", "https://user:pass@app.example/",
		"https://app.example/\x01", `https://app.example\@evil.example/`, "no-scheme", `https://app.example/"><script>`,
	} {
		_, err := w.CreateWorkloadIdentity(t.Context(), caller, &api.CreateWorkloadIdentityRequest{Name: "agent", AllowedResourceOauth2ReturnUrls: []string{"https://fine.example/", url}})
		wantFault(t, err, fault.Invalid, "not allowed")
	}
	w.create(t, "agent", "http://localhost:8081/oauth2/callback", "com.example.app://done", "myapp:done", "https://app.example/done?x=1#y")
	many := slices.Repeat([]string{"https://app.example/done"}, returnURLLimit+1)
	_, tooMany := w.CreateWorkloadIdentity(t.Context(), caller, &api.CreateWorkloadIdentityRequest{Name: "agent", AllowedResourceOauth2ReturnUrls: many})
	wantFault(t, tooMany, fault.Invalid, "At most 200")
	_, err := w.UpdateWorkloadIdentity(t.Context(), caller, &api.UpdateWorkloadIdentityRequest{Name: "agent", AllowedResourceOauth2ReturnUrls: []string{"javascript:alert(1)"}})
	wantFault(t, err, fault.Invalid, "not allowed")
}

func TestOwnedIdentityIsItsOwnersAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	workload := w.owned(t, "gateway-0123456789")

	const refused = "WorkloadIdentity is linked to a service and cannot retrieve an access token by the caller"
	_, err := w.GetWorkloadAccessToken(ctx, caller, &api.GetWorkloadAccessTokenRequest{WorkloadName: workload.Name})
	wantFault(t, err, fault.Denied, refused)
	_, err = w.GetWorkloadAccessTokenForUserId(ctx, caller, &api.GetWorkloadAccessTokenForUserIdRequest{WorkloadName: workload.Name, UserId: "ada"})
	wantFault(t, err, fault.Denied, refused)
	_, err = w.GetWorkloadAccessTokenForJWT(ctx, caller, &api.GetWorkloadAccessTokenForJWTRequest{WorkloadName: workload.Name, UserToken: w.jwt(t, "ada", 3600e9, 0)})
	wantFault(t, err, fault.Denied, refused)

	_, err = w.UpdateWorkloadIdentity(ctx, caller, &api.UpdateWorkloadIdentityRequest{Name: workload.Name, AllowedResourceOauth2ReturnUrls: []string{"https://evil.example/"}})
	wantFault(t, err, fault.Invalid, "cannot be updated by the caller")
	_, err = w.DeleteWorkloadIdentity(ctx, caller, &api.DeleteWorkloadIdentityRequest{Name: workload.Name})
	wantFault(t, err, fault.Invalid, "cannot be deleted by the caller")

	w.update(t, func(tx *store.Tx) error {
		return w.SetReturnURLs(tx, account, workload.ID, []string{"https://app.example/other"})
	})
	shown, err := w.GetWorkloadIdentity(ctx, caller, &api.GetWorkloadIdentityRequest{Name: workload.Name})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"https://app.example/other"}, shown.AllowedResourceOauth2ReturnUrls); diff != "" {
		t.Errorf("return URLs (-want +got):\n%s", diff)
	}
	err = w.db.Update(ctx, func(tx *store.Tx) error {
		return w.SetReturnURLs(tx, other, workload.ID, nil)
	})
	wantFault(t, err, fault.NotFound, "not exist")
	w.update(t, func(tx *store.Tx) error { return w.DeleteOwned(tx, account, workload.ID) })
	_, err = w.GetWorkloadIdentity(ctx, caller, &api.GetWorkloadIdentityRequest{Name: workload.Name})
	wantFault(t, err, fault.NotFound, "not found")
}
