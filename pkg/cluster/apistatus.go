package cluster

import (
	"context"
	"errors"
	"io"
	"net"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// rootStatus returns the API server's answer in a chain of errors, or err itself
// if there is none.
func rootStatus(err error) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		if e, ok := status.(error); ok {
			return e
		}
	}
	return err
}

// kindOf returns the resource that an answer of the API server is about, "" if
// it does not say.
func kindOf(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Details != nil {
		return status.Status().Details.Kind
	}
	return ""
}

// MayPass reports whether an error of a request to the API server may pass by
// itself: the server did not answer, or not whole, or is too busy to; or others
// kept changing the object.
func MayPass(err error) bool {
	status := rootStatus(err)
	if _, answered := status.(apierrors.APIStatus); answered {
		return apierrors.IsTimeout(status) || apierrors.IsServerTimeout(status) || apierrors.IsTooManyRequests(status) ||
			apierrors.IsInternalError(status) || apierrors.IsServiceUnavailable(status) || apierrors.IsConflict(status)
	}
	if errors.Is(err, context.Canceled) {
		return false
	}
	_, onTheWay := errors.AsType[net.Error](err) // a *url.Error is one
	return onTheWay || errors.Is(err, io.ErrUnexpectedEOF)
}
