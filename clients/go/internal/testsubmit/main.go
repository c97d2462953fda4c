// testsubmit submits one task of the type in its argument, without an idempotency key, and prints its id.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"xqueue"
)

func main() {
	client := xqueue.NewClient(os.Getenv("XQUEUE_SERVER"), "")
	task, err := client.Submit(context.Background(), xqueue.NewTask{Type: os.Args[1]})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(task.ID)
}
