// The client that oapi-codegen makes.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"generators/oapi/client"

	"github.com/oapi-codegen/nullable"
)

func main() {
	ctx := context.Background()
	key := func(_ context.Context, request *http.Request) error {
		request.Header.Set("Authorization", "Bearer "+os.Args[2])
		return nil
	}
	api, err := client.NewClientWithResponses(os.Args[1], client.WithRequestEditorFn(key))
	must(err)

	var payload any = map[string]any{"n": 1}
	delay := client.Duration{}
	must(delay.FromDuration1("1h"))
	submitted, err := api.SubmitTaskWithResponse(ctx, client.TaskInput{Type: "remote", Payload: &payload, Delay: &delay})
	must(err)
	id := submitted.JSON201.Id
	got, err := api.GetTaskWithResponse(ctx, id)
	must(err)
	check(got.JSON200.Payload.(map[string]any)["n"] == 1.0)
	kind, status := "remote", client.StatusPending
	list, err := api.ListTasksWithResponse(ctx, &client.ListTasksParams{Type: &kind, Status: &status})
	must(err)
	found := false
	for _, listed := range list.JSON200.Tasks {
		found = found || listed.Id == id
	}
	check(found)
	canceled, err := api.CancelTaskWithResponse(ctx, id)
	must(err)
	check(canceled.JSON200.Status == client.StatusCanceled)
	purged, err := api.PurgeTaskWithResponse(ctx, id)
	must(err)
	check(purged.StatusCode() == 204)

	two := client.SetLimitRequest{TaskType: "remote", MaxConcurrency: nullable.NewNullableWithValue(2)}
	limit, err := api.SetLimitWithResponse(ctx, two)
	must(err)
	check(limit.JSON200.MaxConcurrency.MustGet() == 2)
	none := client.SetLimitRequest{TaskType: "remote", MaxConcurrency: nullable.NewNullNullable[int]()}
	limit, err = api.SetLimitWithResponse(ctx, none)
	must(err)
	check(limit.JSON200.MaxConcurrency.IsNull())

	refused, err := api.GetTaskWithResponse(ctx, "nobody")
	must(err)
	check(refused.ApplicationproblemJSON404.Code == "not_found")
	fmt.Println("OK")
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func check(holds bool) {
	if !holds {
		panic("it does not hold")
	}
}
