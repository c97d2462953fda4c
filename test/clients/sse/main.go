// Prints each event of a stream as r3labs/sse gives it, one JSON array a line, until there were as many as asked for.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/r3labs/sse/v2"
)

func main() {
	left, err := strconv.Atoi(os.Args[2])
	if err != nil {
		panic(err)
	}
	events := make(chan *sse.Event)
	if err := sse.NewClient(os.Args[1]).SubscribeChanRaw(events); err != nil {
		panic(err)
	}
	for ; left > 0; left-- {
		event := <-events
		line, _ := json.Marshal([]string{string(event.Event), string(event.ID), string(event.Data)})
		fmt.Println(string(line))
	}
}
