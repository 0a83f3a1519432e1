// Package cni is the front of viarule's CNI programs: it reads what a runtime asks by
// environment and standard input, has a Plugin do it, and answers with a result or an
// error object, in every version of the specification. What it takes and says is what
// the library containernetworking/cni does, which is the oracle of its tests; where it
// is stricter, the tests say so. Further: how a network configuration is read key by
// key, so that each message names its key; the addresses of a previous result; and the
// log file.
//
// It must stay cheap to start: a program lives for two milliseconds, once per pod. Hence
// no reflection, and no regular expressions.
package cni

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/viarule/viarule/internal/jsontext"
	"github.com/viarule/viarule/internal/kernel"
)

// Codes of the specification for errors. From 100 on they are a plugin's own.
const (
	CodeVersion      = 1   // the configuration's cniVersion is not supported
	CodeUnsupported  = 2   // a field asks for what cannot be
	CodeContainer    = 3   // the container, or its namespace, does not exist
	CodeEnvironment  = 4   // an environment variable is missing or malformed
	CodeIO           = 5   // what the kernel or a file refused
	CodeDecoding     = 6   // no JSON, or a value of the wrong type
	CodeConfig       = 7   // a value of the configuration is wrong or missing
	CodeNetns        = 8   // the namespace is the plugin's own
	CodeTryAgain     = 11  // try again later
	CodeNotAvailable = 50  // STATUS: the plugin cannot work
	CodeLimited      = 51  // STATUS: it cannot work for what exists already
	CodeDiffers      = 101 // CHECK: something is missing or wrong
)

// Error is an error as a runtime gets it.
type Error struct {
	Code    uint
	Msg     string
	Details string // may be empty
}

// Error is the message with the details.
func (e *Error) Error() string {
	if e.Details == "" {
		return e.Msg
	}
	return e.Msg + "; " + e.Details
}

// text is the error object.
func (e *Error) text() []byte {
	var w writer
	w.open('{')
	w.key("code")
	w.uint(uint64(e.Code))
	w.key("msg")
	w.string(e.Msg)
	w.text("details", e.Details)
	w.close('}')
	return w.b
}

// Wrong is the error of a value that is wrong or missing: `key: what; do`.
func Wrong(key, what, do string) *Error {
	return &Error{Code: CodeConfig, Msg: message(key, what, do)}
}

// Type is the error of a value of the wrong type.
func Type(key, what, do string) *Error {
	return &Error{Code: CodeDecoding, Msg: message(key, what, do)}
}

func message(key, what, do string) string {
	s := key + ": " + what
	if do != "" {
		s += "; " + do
	}
	return s
}

// Failed is the error of an operation, with the code that its cause has in the
// specification. An *Error among the causes is the answer itself.
func Failed(what string, err error) *Error {
	var own *Error
	code := uint(CodeIO)
	switch {
	case errors.As(err, &own):
		return own
	case errors.Is(err, kernel.ErrNoNamespace):
		code = CodeContainer
	case errors.Is(err, kernel.ErrOwnNamespace):
		code = CodeNetns
	case errors.Is(err, context.DeadlineExceeded):
		code = CodeTryAgain
	}
	return &Error{Code: code, Msg: fmt.Sprintf("%s: %v", what, err)}
}

// NotChained is what a plugin says that was not called behind another one.
func NotChained() *Error {
	return &Error{Code: CodeConfig, Msg: "This plugin must be called as chained plugin"}
}

// short is a value for a message.
func short(v jsontext.Value) string {
	const most = 60
	if len(v) > most {
		return string(bytes.ToValidUTF8(v[:most], nil)) + "..."
	}
	return string(v)
}
