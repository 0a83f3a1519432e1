// Package cni is what all of viarule's CNI programs share: how a network configuration is
// read key by key, so that each message names its key; errors with the codes of the CNI
// specification; the addresses of a previous result; and the log file.
//
// It must stay cheap to start: a program lives for two milliseconds, once per pod.
package cni

import (
	"context"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/viarule/viarule/internal/kernel"
)

// CodeDiffers is CHECK's answer where something is missing or wrong: codes from 100 on
// are a plugin's own.
const CodeDiffers uint = 101

// Wrong is the error of a value that is wrong or missing: `key: what; do`.
func Wrong(key, what, do string) *types.Error {
	return types.NewError(types.ErrInvalidNetworkConfig, message(key, what, do), "")
}

// Type is the error of a value of the wrong type.
func Type(key, what, do string) *types.Error {
	return types.NewError(types.ErrDecodingFailure, message(key, what, do), "")
}

func message(key, what, do string) string {
	s := key + ": " + what
	if do != "" {
		s += "; " + do
	}
	return s
}

// Failed is the error of an operation, with the code that its cause has in the
// specification.
func Failed(what string, err error) *types.Error {
	var own *types.Error
	code := uint(types.ErrIOFailure)
	switch {
	case errors.As(err, &own):
		return own
	case errors.Is(err, kernel.ErrNoNamespace):
		code = types.ErrUnknownContainer
	case errors.Is(err, kernel.ErrOwnNamespace):
		code = types.ErrInvalidNetNS
	case errors.Is(err, context.DeadlineExceeded):
		code = types.ErrTryAgainLater
	}
	return types.NewError(code, fmt.Sprintf("%s: %v", what, err), "")
}
