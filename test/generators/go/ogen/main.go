// The client that ogen makes.
package main

import (
	"context"
	"fmt"
	"os"

	"generators/ogen/client"

	"github.com/go-faster/jx"
	"github.com/ogen-go/ogen/ogenerrors"
)

type key struct{}

func (key) Key(context.Context, client.OperationName) (client.Key, error) {
	return client.Key{Token: os.Args[2]}, nil
}
func (key) Cookie(context.Context, client.OperationName) (client.Cookie, error) {
	return client.Cookie{}, ogenerrors.ErrSkipClientSecurity
}
func (key) Token(context.Context, client.OperationName) (client.Token, error) {
	return client.Token{}, ogenerrors.ErrSkipClientSecurity
}

func main() {
	ctx := context.Background()
	api, err := client.NewClient(os.Args[1], key{})
	must(err)

	input := client.TaskInput{Type: "remote", Payload: jx.Raw(`{"n":1}`)}
	input.Delay.SetTo(client.NewStringDuration("1h"))
	submitted, err := api.SubmitTask(ctx, &input)
	must(err)
	id := submitted.(*client.SubmitTaskCreated).ID
	got, err := api.GetTask(ctx, client.GetTaskParams{ID: id})
	must(err)
	check(string(got.(*client.Task).Payload) == `{"n":1}`)
	list, err := api.ListTasks(ctx, client.ListTasksParams{Type: client.NewOptString("remote")})
	must(err)
	found := false
	for _, listed := range list.(*client.TaskList).Tasks {
		found = found || listed.ID == id
	}
	check(found)
	canceled, err := api.CancelTask(ctx, client.CancelTaskParams{ID: id})
	must(err)
	check(canceled.(*client.CancelTaskOK).Status == client.StatusCanceled)
	purged, err := api.PurgeTask(ctx, client.PurgeTaskParams{ID: id})
	must(err)
	_, isPurged := purged.(*client.PurgeTaskNoContent)
	check(isPurged)

	request := client.SetLimitRequest{TaskType: "remote", MaxConcurrency: client.NewOptNilInt(2)}
	limit, err := api.SetLimit(ctx, &request)
	must(err)
	check(limit.(*client.SetLimitResult).MaxConcurrency.Value == 2)
	request.MaxConcurrency.SetToNull()
	limit, err = api.SetLimit(ctx, &request)
	must(err)
	check(limit.(*client.SetLimitResult).MaxConcurrency.Null)

	refused, err := api.GetTask(ctx, client.GetTaskParams{ID: "nobody"})
	must(err)
	check(refused.(*client.GetTaskNotFound).Code == "not_found")
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
