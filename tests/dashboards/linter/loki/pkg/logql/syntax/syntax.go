// Package syntax stands in for Loki's own package of this path, with which dashboard-linter reads
// LogQL, and with which most of Loki would have to be built. Our boards ask Prometheus only.
package syntax

import (
	"errors"
	"time"
)

type Expr any

type (
	BinOpExpr             struct{ SampleExpr, RHS Expr }
	RangeAggregationExpr  struct{ Left Expr }
	VectorAggregationExpr struct{ Left Expr }
	LabelReplaceExpr      struct{ Left Expr }
	LogRangeExpr          struct {
		Left     Expr
		Interval time.Duration
	}
	PipelineExpr struct {
		Left        Expr
		MultiStages []Expr
	}
)

func ParseExpr(string) (Expr, error) {
	return nil, errors.New("this linter was built without LogQL")
}
