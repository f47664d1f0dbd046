// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// kubectl-clerk is a kubectl plugin for people who run the operator.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/clerk-operator/clerk-operator/internal/delivery"
)

const usage = `kubectl clerk send-test signs an event and posts it to a receiver, as Clerk would.

  kubectl clerk send-test --type user.created --data user.json
  kubectl clerk send-test --event event.json
  echo '{"id":"user_2g7np7Hrk0SN6kj5EDMLDaKNL0S"}' | kubectl clerk send-test --type user.deleted --data -

The signing secret is read from the environment variable CLERK_WEBHOOK_SECRET.

Flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "error:", err)
			stop()
			os.Exit(1)
		}
	}
}

func run(ctx context.Context, arguments []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(arguments) == 0 || arguments[0] != "send-test" {
		_, _ = io.WriteString(stderr, usage)
		if len(arguments) > 0 && arguments[0] != "help" && arguments[0] != "--help" && arguments[0] != "-h" {
			return fmt.Errorf("unknown command %q: the command is send-test", arguments[0])
		}
		return flag.ErrHelp
	}
	return sendTest(ctx, arguments[1:], stdin, stdout, stderr)
}

func sendTest(ctx context.Context, arguments []string, stdin io.Reader, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("send-test", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		_, _ = io.WriteString(stderr, usage)
		flags.PrintDefaults()
	}
	url := flags.String("url", "http://localhost:8080/webhooks/clerk", "Where the event is posted.")
	eventType := flags.String("type", "", "The event's type, such as user.created; with --data.")
	data := flags.String("data", "", "A file with the object that the event is about, as JSON; - is standard input.")
	instanceID := flags.String("instance-id", "", "The Clerk instance that the event says it is of (ins_…); with --data.")
	event := flags.String("event", "", "A file with a whole event, envelope and all; - is standard input.")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	secret := strings.TrimSpace(os.Getenv("CLERK_WEBHOOK_SECRET"))
	if secret == "" {
		return errors.New("set the environment variable CLERK_WEBHOOK_SECRET to the endpoint's signing secret (whsec_…)")
	}
	body, err := bodyOf(*event, *eventType, *instanceID, *data, stdin)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	answer, err := delivery.Sender{URL: *url, Secret: secret}.Post(ctx, delivery.NewMessage(body))
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(stdout, "%d %s", answer.Code, answer.Body)
	if !answer.Delivered() {
		return fmt.Errorf("%s answered %d: Svix would try again", *url, answer.Code)
	}
	return nil
}

// bodyOf reads a whole event, or makes one of an object.
func bodyOf(event, eventType, instanceID, data string, stdin io.Reader) ([]byte, error) {
	switch {
	case event != "" && (eventType != "" || data != ""):
		return nil, errors.New("give either --event or --type and --data")
	case event != "":
		return read(event, stdin)
	case eventType == "" || data == "":
		return nil, errors.New("give --type and --data, or --event")
	}
	object, err := read(data, stdin)
	if err != nil {
		return nil, err
	}
	if !json.Valid(object) {
		return nil, fmt.Errorf("%s is not JSON", data)
	}
	return delivery.Event{Type: eventType, InstanceID: instanceID, Data: json.RawMessage(object)}.Body()
}

func read(name string, stdin io.Reader) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(name) //nolint:gosec // the file is the user's own choice
}
