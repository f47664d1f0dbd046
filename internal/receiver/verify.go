// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"net/http"
	"regexp"
	"strconv"
	"time"

	svix "github.com/svix/svix-webhooks/go"
)

// verificationError says why a delivery is not proven to be Clerk's. It is also the label of a metric.
type verificationError string

func (e verificationError) Error() string { return "verification failed: " + string(e) }

const (
	errMissingHeaders   verificationError = "missing_headers"
	errMalformedHeaders verificationError = "malformed_headers"
	errTooOld           verificationError = "timestamp_too_old"
	errTooNew           verificationError = "timestamp_too_new"
	errNoMatch          verificationError = "no_matching_signature"
)

// delivery is what the headers of a verified delivery say.
type delivery struct {
	// messageID is the same for every attempt at the same message.
	messageID string
	// sentAt is the time of this attempt.
	sentAt time.Time
}

// families are the prefixes of the three headers, in the order in which they are looked for.
var families = []string{"Svix-", "Webhook-"}

var (
	messageIDPattern = regexp.MustCompile(`^[!-~]{1,128}$`)
	timestampPattern = regexp.MustCompile(`^[0-9]{1,12}$`)
)

// attempt is what a request's headers claim, before it is proven.
type attempt struct {
	delivery
	// signed holds the three headers that are verified, and no other.
	signed http.Header
}

// verify proves that a body was signed with one of the secrets. The svix library checks the signature; readAttempt has
// checked the timestamp, where the clock can be set and the reasons told apart.
func (a attempt) verify(body []byte, verifiers []*svix.Webhook) error {
	for _, verifier := range verifiers {
		if verifier.VerifyIgnoringTimestamp(body, a.signed) == nil {
			return nil
		}
	}
	return errNoMatch
}

// readAttempt reads the headers of an attempt that is at most five minutes from now. All three must come once and from
// one family, so that what is checked is what is signed.
func readAttempt(header http.Header, now time.Time) (attempt, error) {
	id, timestamp, signature, err := signedHeaders(header)
	if err != nil {
		return attempt{}, err
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || !timestampPattern.MatchString(timestamp) || !messageIDPattern.MatchString(id) {
		return attempt{}, errMalformedHeaders
	}
	sentAt := time.Unix(seconds, 0)
	switch age := now.Sub(sentAt); {
	case age > tolerance:
		return attempt{}, errTooOld
	case age < -tolerance:
		return attempt{}, errTooNew
	}
	return attempt{
		delivery: delivery{messageID: id, sentAt: sentAt},
		signed:   http.Header{"Svix-Id": {id}, "Svix-Timestamp": {timestamp}, "Svix-Signature": {signature}},
	}, nil
}

func signedHeaders(header http.Header) (id, timestamp, signature string, err error) {
	for _, family := range families {
		ids, timestamps, signatures := header[family+"Id"], header[family+"Timestamp"], header[family+"Signature"]
		if len(ids) > 1 || len(timestamps) > 1 || len(signatures) > 1 {
			return "", "", "", errMalformedHeaders
		}
		id, timestamp, signature = header.Get(family+"Id"), header.Get(family+"Timestamp"), header.Get(family+"Signature")
		if id != "" && timestamp != "" && signature != "" {
			return id, timestamp, signature, nil
		}
	}
	return "", "", "", errMissingHeaders
}
