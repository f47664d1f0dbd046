// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package clerkapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"time"
)

// ErrMalformed says that an answer is not what Clerk documents.
var ErrMalformed = errors.New("the answer is not what Clerk documents")

// Error is a request that failed. It holds none of the answer's text, which can name people.
type Error struct {
	// Operation is what was asked, such as ListUsers.
	Operation string
	// StatusCode is the answer's; 0 when there was none.
	StatusCode int
	// Code is Clerk's own word for the error, such as resource_not_found; empty when the answer was not Clerk's.
	Code string
	// TraceID is what Clerk's support asks for.
	TraceID string
	// RetryAfter is how long Clerk asks to wait; zero when it does not.
	RetryAfter time.Duration

	cause error
}

func (e *Error) Error() string {
	message := e.Summary()
	if e.TraceID != "" {
		message += " (trace " + e.TraceID + ")"
	}
	if e.cause != nil {
		message += ": " + e.cause.Error()
	}
	return message
}

// Summary is the error without what differs from attempt to attempt.
func (e *Error) Summary() string {
	switch {
	case e.StatusCode == 0:
		return e.Operation + " got no answer"
	case e.StatusCode == http.StatusOK:
		return e.Operation + " got an answer that is not what Clerk documents"
	case e.Code == "":
		return fmt.Sprintf("%s failed with %d", e.Operation, e.StatusCode)
	}
	return fmt.Sprintf("%s failed with %d %s", e.Operation, e.StatusCode, e.Code)
}

func (e *Error) Unwrap() error { return e.cause }

// IsNotFound says whether an error is Clerk's own word that an object does not exist. A 404 of something in between,
// which knows nothing of Clerk's objects, is not.
func IsNotFound(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.StatusCode == http.StatusNotFound && e.Code != ""
}

// IsOrganizationsOff says whether an error is Clerk's word that the instance has no organizations at all.
func IsOrganizationsOff(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.StatusCode == http.StatusForbidden && e.Code == "organization_not_enabled_in_instance"
}

// IsBillingOff says whether an error is Clerk's word that there is no subscription to read, or that nothing answers such
// questions. Clerk does not say how it tells that billing is off, so whatever it refuses this way is taken for it.
func IsBillingOff(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return false
	}
	switch e.StatusCode {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	case http.StatusBadRequest, http.StatusForbidden, http.StatusUnprocessableEntity:
		return e.Code != ""
	}
	return false
}

// word is what of an answer may stand in a log.
var word = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// newStatusError reads an answer that is not a success.
func newStatusError(operation string, response *http.Response, body []byte) *Error {
	e := &Error{Operation: operation, StatusCode: response.StatusCode, RetryAfter: retryAfter(response.Header)}
	var answer struct {
		Errors []struct {
			Code string `json:"code"`
		} `json:"errors"`
		TraceID string `json:"clerk_trace_id"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || len(answer.Errors) == 0 {
		return e
	}
	if word.MatchString(answer.Errors[0].Code) {
		e.Code = answer.Errors[0].Code
	}
	if word.MatchString(answer.TraceID) {
		e.TraceID = answer.TraceID
	}
	return e
}
