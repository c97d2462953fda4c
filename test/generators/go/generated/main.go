// The client that openapi-generator makes for Go.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"generators/generated/client"
)

func main() {
	configuration := client.NewConfiguration()
	configuration.Servers = client.ServerConfigurations{{URL: os.Args[1]}}
	ctx := context.WithValue(context.Background(), client.ContextAccessToken, os.Args[2])
	api := client.NewAPIClient(configuration)

	input := client.NewTaskInput("remote")
	input.SetPayload(map[string]any{"n": 1})
	hour := "1h"
	input.SetDelay(client.StringAsDuration(&hour))
	task, _, err := api.TasksAPI.SubmitTask(ctx).TaskInput(*input).Execute()
	must(err)
	got, _, err := api.TasksAPI.GetTask(ctx, task.GetId()).Execute()
	must(err)
	check(got.Payload.(map[string]any)["n"] == 1.0)
	list, _, err := api.TasksAPI.ListTasks(ctx).Type_("remote").Status(client.PENDING).Execute()
	must(err)
	found := false
	for _, listed := range list.Tasks {
		found = found || listed.Id == task.Id
	}
	check(found)
	canceled, _, err := api.TasksAPI.CancelTask(ctx, task.GetId()).Execute()
	must(err)
	check(canceled.Status == client.CANCELED)
	_, err = api.TasksAPI.PurgeTask(ctx, task.GetId()).Execute()
	must(err)

	request := client.NewSetLimitRequest("remote")
	request.SetMaxConcurrency(2)
	limit, _, err := api.TypesAPI.SetLimit(ctx).SetLimitRequest(*request).Execute()
	must(err)
	check(limit.GetMaxConcurrency() == 2)
	request.SetMaxConcurrencyNil()
	limit, _, err = api.TypesAPI.SetLimit(ctx).SetLimitRequest(*request).Execute()
	must(err)
	check(limit.MaxConcurrency.Get() == nil)

	_, answer, err := api.TasksAPI.GetTask(ctx, "nobody").Execute()
	check(answer.StatusCode == http.StatusNotFound)
	check(err.(*client.GenericOpenAPIError).Model().(client.Problem).Code == "not_found")
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
