// Package v2 stands in for Grafana's own package of this path, which dashboard-linter reads boards of
// the v2 schema with and which not every module proxy has. Our boards are of the classic schema, so
// what is here needs to compile and is never used.
package v2

type kind[S any] struct{ Spec S }

type (
	DashboardSpec struct {
		Title       string
		Editable    *bool
		Elements    map[string]DashboardElement
		Variables   []DashboardVariableKind
		Annotations []DashboardAnnotationQueryKind
	}
	DashboardElement   struct{ PanelKind *kind[DashboardPanelSpec] }
	DashboardPanelSpec struct {
		Id                 float64
		Title, Description string
		VizConfig          struct {
			Group string
			Spec  struct{ FieldConfig, Options any }
		}
		Data kind[struct{ Queries []DashboardPanelQueryKind }]
	}
	DashboardPanelQueryKind = kind[struct {
		RefId  string
		Hidden bool
		Query  DashboardDataQueryKind
	}]
	DashboardDataQueryKind struct {
		Group      string
		Datasource *struct{ Name *string }
		Spec       map[string]any
	}
	DashboardAnnotationQueryKind = kind[struct {
		Name  string
		Query DashboardDataQueryKind
	}]
	DashboardVariableRefresh string

	variable struct {
		Name            string
		Label, AllValue *string
		Multi           bool
		Query, PluginId string
		Refresh         DashboardVariableRefresh
	}
	queryVariable struct {
		variable
		Query DashboardDataQueryKind
	}
	DashboardVariableKind struct {
		QueryVariableKind *kind[queryVariable]
		DatasourceVariableKind, CustomVariableKind, IntervalVariableKind, ConstantVariableKind,
		TextVariableKind, AdhocVariableKind, GroupByVariableKind, SwitchVariableKind *kind[variable]
	}
)

const (
	DashboardVariableRefreshOnTimeRangeChanged DashboardVariableRefresh = "onTimeRangeChanged"
	DashboardVariableRefreshOnDashboardLoad    DashboardVariableRefresh = "onDashboardLoad"
)
