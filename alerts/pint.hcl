# pint (https://cloudflare.github.io/pint): what every rule here must have. Findings are failures.
#
#   pint --offline --config alerts/pint.hcl lint --min-severity=info --fail-on=info alerts/*.rules.yaml
parser {
  schema = "prometheus"
  names  = "legacy"
}

rule {
  match {
    kind = "alerting"
  }

  name "HAProxy.+" {
    severity = "bug"
  }

  label "severity" {
    severity = "bug"
    required = true
    values   = ["critical", "warning", "info"]
  }

  # A static sentence: notifications are grouped and compared by it.
  annotation "summary" {
    severity = "bug"
    required = true
    value    = "[^{}]+\\."
  }

  annotation "description" {
    severity = "bug"
    required = true
    value    = "(?s).+"
  }

  annotation "runbook_url" {
    severity = "bug"
    required = true
    value    = "/runbooks/{{ $alert }}"
  }

  annotation "dashboard_url" {
    severity = "bug"
    required = true
    value    = "/d/haproxy-host-(fleet|host).*"
  }
}

rule {
  match {
    kind = "recording"
  }

  name "[a-z_]+:haproxy_host_[a-z_]+:[a-z0-9]+" {
    severity = "bug"
  }
}
