{{/* Labels of every object: those of manifests/base, and the two that Helm's users expect. */}}
{{- define "registry-cleanup.labels" -}}
app.kubernetes.io/name: registry-cleanup-operator
app.kubernetes.io/part-of: registry-cleanup
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* What selects the operator's pods. It does not name the release: the objects' names do not either. */}}
{{- define "registry-cleanup.selector" -}}
app.kubernetes.io/component: operator
app.kubernetes.io/instance: registry-cleanup
{{- end }}

{{- define "registry-cleanup.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ printf "%s@%s" .repository .digest }}
{{- else -}}
{{ printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Not empty where operators do not agree by a Lease on the one that works. */}}
{{- define "registry-cleanup.alone" -}}
{{- $election := dig "REGISTRY_CLEANUP_LEADER_ELECTION" "true" .Values.settings | toString | lower -}}
{{- if has $election (list "false" "0" "no" "n" "off" "f") }}alone{{ end -}}
{{- end }}

{{/* A setting as the text of an environment variable. Helm reads numbers as floats, and 1000000 would become 1e+06. */}}
{{- define "registry-cleanup.setting" -}}
{{- if kindIs "slice" . -}}
{{ join " " . }}
{{- else if and (kindIs "float64" .) (eq . (floor .)) -}}
{{ int64 . }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end }}

{{/*
The objects of one of the repository's own manifests, in this release's namespace and with its labels. The files under
files/ are copies that `make chart` makes and a test compares, so a right is written once. Arguments, as a dict:
  root: the root
  file: the name of the file
  annotations: to add
  namespace: of objects that name none
  without: a kind to leave out
*/}}
{{- define "registry-cleanup.manifest" -}}
{{- $ := . -}}
{{- range (include "registry-cleanup.objects" .) | fromYamlArray }}
{{- $object := . }}
{{- if ne $object.kind ($.without | default "") }}
{{- with $.namespace }}
{{- $_ := set $object.metadata "namespace" ($object.metadata.namespace | default .) }}
{{- end }}
{{- with $.annotations }}
{{- $_ := set $object.metadata "annotations" (merge (deepCopy .) ($object.metadata.annotations | default dict)) }}
{{- end }}
---
{{ toYaml $object }}
{{- end }}
{{- end }}
{{- end }}

{{/* The same objects as one list. */}}
{{- define "registry-cleanup.objects" -}}
{{- $root := .root -}}
{{- $text := $root.Files.Get (printf "files/%s" .file) | required (printf "the chart lacks its file files/%s" .file) -}}
{{- $text = $text | replace "registry-cleanup-system" $root.Release.Namespace -}}
{{- $objects := list -}}
{{- range regexSplit "(?m)^---$" $text -1 }}
{{- $object := fromYaml . }}
{{- if $object.kind }}
{{- $labels := include "registry-cleanup.labels" $root | fromYaml }}
{{- $_ := set $object.metadata "labels" (merge $labels ($object.metadata.labels | default dict)) }}
{{- $objects = append $objects $object }}
{{- end }}
{{- end }}
{{- toYaml $objects }}
{{- end }}
