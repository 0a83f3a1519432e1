package cni

import "github.com/containernetworking/cni/pkg/types"

// Codes of the specification.
const (
	CodeEnvironment uint = types.ErrInvalidEnvironmentVariables
	CodeTryAgain    uint = types.ErrTryAgainLater
	CodeDecoding    uint = types.ErrDecodingFailure
)

// Coded is an error with a code of the specification, or of another plugin.
func Coded(code uint, msg, details string) *types.Error {
	return types.NewError(code, msg, details)
}
