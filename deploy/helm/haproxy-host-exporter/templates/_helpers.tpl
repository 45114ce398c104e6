{{- define "exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "exporter.fullname" -}}
{{- $name := include "exporter.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "exporter.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "exporter.selector" -}}
app.kubernetes.io/name: {{ include "exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "exporter.metadata" -}}
namespace: {{ include "exporter.namespace" . }}
labels:
  helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
  app.kubernetes.io/managed-by: {{ .Release.Service }}
  app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
  {{- include "exporter.selector" . | nindent 2 }}
  {{- with .Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "exporter.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "exporter.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "exporter.image" -}}
{{- $registry := default .Values.image.registry .Values.global.imageRegistry -}}
{{- with $registry }}{{ . }}/{{ end -}}
{{- .Values.image.repository -}}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ end -}}
{{- end -}}

{{- define "exporter.hasConfig" -}}
{{- if or .Values.config .Values.policies.lbagent .Values.existingConfigMap .Values.reap.enabled }}true{{ end -}}
{{- end -}}

{{/* The files of the configuration, for the ConfigMap and for the annotation that rolls the pods out. */}}
{{- define "exporter.config" -}}
{{- with .Values.config }}
config.yaml: |
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .Values.policies.lbagent }}
lbagent.yaml: |
  {{- .Files.Get "files/policy/lbagent.yaml" | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The flags that serve and reap share. */}}
{{- define "exporter.sharedArgs" -}}
{{- if include "exporter.hasConfig" . }}
- --config.file=/etc/haproxy-host-exporter
{{- end }}
{{- if not .Values.hostPID }}
- --path.procfs=/host/proc
{{- end }}
{{- if .Values.hostSysFsMount.enabled }}
- --path.sysfs=/host/sys
{{- end }}
- --log.level={{ .Values.logLevel }}
- --sample.interval={{ .Values.sampleInterval }}
{{- end -}}

{{- define "exporter.sharedMounts" -}}
{{- if include "exporter.hasConfig" . }}
- name: config
  mountPath: /etc/haproxy-host-exporter
  readOnly: true
{{- end }}
{{- if not .Values.hostPID }}
- name: proc
  mountPath: /host/proc
  readOnly: true
  mountPropagation: HostToContainer
{{- end }}
{{- if .Values.hostSysFsMount.enabled }}
- name: sys
  mountPath: /host/sys
  readOnly: true
  mountPropagation: HostToContainer
{{- end }}
{{- end -}}

{{/* The security context of a container with these capabilities. */}}
{{- define "exporter.securityContext" -}}
{{- $rights := concat (list "SYS_PTRACE" "DAC_READ_SEARCH") .more -}}
{{- if .root.Values.rights.namespaces }}{{ $rights = append $rights "SYS_ADMIN" }}{{ end -}}
{{- toYaml .root.Values.containerSecurityContext }}
capabilities:
  drop: [ALL]
  add: {{ toJson $rights }}
{{- with .root.Values.appArmorProfile }}
appArmorProfile:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
