package control

import (
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// NewFailure returns err and its hints as data; nil stays nil.
func NewFailure(err error) *api.Failure {
	if err == nil {
		return nil
	}
	return &api.Failure{Message: err.Error(), HintList: hint.Of(err)}
}
