package xqueue

import (
	"encoding/json"
	"fmt"
	"time"
)

const (
	// Lines that wait to be sent; the oldest go first.
	linesMost      = 1_000
	linesBytesMost = 256 << 10
	messageMost    = 8_000
)

// lines are lines of the log of an attempt as JSON, bounded in count and bytes.
type lines struct {
	texts   []json.RawMessage
	skipped int // older lines that were left out
	bytes   int
}

func (l *lines) add(line json.RawMessage) {
	l.texts = append(l.texts, line)
	l.bytes += len(line)
	for len(l.texts) > linesMost || (l.bytes > linesBytesMost && len(l.texts) > 1) {
		l.bytes -= len(l.texts[0])
		l.texts = l.texts[1:]
		l.skipped++
	}
}

var levels = map[string]bool{"trace": true, "debug": true, "info": true, "warn": true, "error": true, "fatal": true}

// lineOf is the JSON of a line. Fields that have none are named in their place: a log never fails its handler.
func lineOf(level, message string, fields map[string]any) (line json.RawMessage) {
	if !levels[level] {
		level = "info"
	}
	if len(message) > messageMost {
		message = message[:messageMost] // Half a character becomes U+FFFD.
	}
	made := map[string]any{
		"time": time.Now().UTC().Format("2006-01-02T15:04:05.000Z07:00"), "level": level, "message": message,
	}
	plain, _ := json.Marshal(made)
	if len(fields) == 0 {
		return plain
	}
	unreadable := func(why any) json.RawMessage {
		made["fields"] = map[string]string{"unreadable": fmt.Sprint(why)}
		text, _ := json.Marshal(made)
		return text
	}
	defer func() {
		if thrown := recover(); thrown != nil {
			line = unreadable(thrown)
		}
	}()
	made["fields"] = fields
	text, err := json.Marshal(made)
	if err != nil {
		return unreadable(err)
	}
	return text
}
