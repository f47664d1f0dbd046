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

// verify proves that a body was signed with one of the secrets, at most five minutes from now. The svix library checks
// the signature; the timestamp is checked here, where the clock can be set and the reasons told apart. All three
// headers must come once and from one family, so that what is checked is what is signed.
func verify(header http.Header, body []byte, verifiers []*svix.Webhook, now time.Time) (delivery, error) {
	id, timestamp, signature, err := signedHeaders(header)
	if err != nil {
		return delivery{}, err
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || !timestampPattern.MatchString(timestamp) || !messageIDPattern.MatchString(id) {
		return delivery{}, errMalformedHeaders
	}
	sentAt := time.Unix(seconds, 0)
	switch age := now.Sub(sentAt); {
	case age > tolerance:
		return delivery{}, errTooOld
	case age < -tolerance:
		return delivery{}, errTooNew
	}
	signed := http.Header{"Svix-Id": {id}, "Svix-Timestamp": {timestamp}, "Svix-Signature": {signature}}
	for _, verifier := range verifiers {
		if verifier.VerifyIgnoringTimestamp(body, signed) == nil {
			return delivery{messageID: id, sentAt: sentAt}, nil
		}
	}
	return delivery{}, errNoMatch
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
