{{/* The name of every object: the release, so that two releases fit into one namespace. */}}
{{- define "longhaul.name" -}}
{{- if contains "longhaul" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-longhaul" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "longhaul.selector" -}}
app.kubernetes.io/name: longhaul
app.kubernetes.io/instance: {{ include "longhaul.name" . }}
{{- end }}

{{- define "longhaul.release" -}}
app.kubernetes.io/part-of: longhaul
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "longhaul.labels" -}}
{{ include "longhaul.selector" . }}
{{ include "longhaul.release" . }}
{{- end }}

{{- define "longhaul.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "longhaul.sink" -}}
{{- if .Values.sink }}{{ toYaml .Values.sink }}
{{- else -}}
ref:
  apiVersion: serving.knative.dev/v1
  kind: Service
  name: {{ .Values.worker.name }}
{{- end }}
{{- end }}
