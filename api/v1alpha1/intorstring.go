package v1alpha1

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// IntOrString is a number or a string, held as text: 200 and "200" are the same.
// It is not intstr.IntOrString because that ends at 2147483647, and marks and
// table numbers have 32 bits.
//
// +kubebuilder:validation:XIntOrString
// +kubebuilder:validation:Type=""
// +kubebuilder:validation:MaxLength=63
type IntOrString string

// MarshalJSON writes decimal digits as a number and everything else as a string.
func (v IntOrString) MarshalJSON() ([]byte, error) {
	if n, err := strconv.ParseUint(string(v), 10, 63); err == nil && strconv.FormatUint(n, 10) == string(v) {
		return []byte(v), nil
	}
	return json.Marshal(string(v))
}

// UnmarshalJSON reads a whole number or a string.
func (v *IntOrString) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err == nil {
		*v = IntOrString(s)
		return nil
	}
	var n int64
	if err := json.Unmarshal(b, &n); err != nil {
		return fmt.Errorf("neither a whole number nor a string: %w", err)
	}
	*v = IntOrString(strconv.FormatInt(n, 10))
	return nil
}
