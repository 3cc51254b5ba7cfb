"""Reads OTLP in JSON with the official messages of OpenTelemetry: `otlp.py metrics|logs FILE`. Prints what it found, as JSON."""

import json
import sys

from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

kind, file = sys.argv[1:]
text = open(file, encoding="utf-8").read()


def plain(attributes):
    return {attribute.key: attribute.value.string_value for attribute in attributes}


if kind == "metrics":
    [resource] = Parse(text, ExportMetricsServiceRequest()).resource_metrics
    [scope] = resource.scope_metrics
    found = [
        {"name": metric.name, "unit": metric.unit, "time": point.time_unix_nano, "value": point.as_double}
        | plain(point.attributes)
        for metric in scope.metrics
        for point in metric.gauge.data_points
    ]
else:
    [resource] = Parse(text, ExportLogsServiceRequest()).resource_logs
    [scope] = resource.scope_logs
    found = [
        {"severity": record.severity_number, "text": record.body.string_value, "time": record.time_unix_nano}
        | plain(record.attributes)
        for record in scope.log_records
    ]
print(json.dumps({"resource": plain(resource.resource.attributes), "found": found}))
