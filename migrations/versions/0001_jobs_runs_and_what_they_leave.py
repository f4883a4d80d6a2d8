"""Jobs, runs and what they leave."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("body_digest", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_jobs_idempotency_key")),
    )
    op.create_index(op.f("ix_jobs_created_at_id"), "jobs", ["created_at", "id"], unique=False)
    op.create_table(
        "targets",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("engine", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_targets")),
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("version", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
    )
    op.create_table(
        "job_labels",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_labels_job_id")),
        sa.PrimaryKeyConstraint("job_id", "key", name=op.f("pk_job_labels")),
    )
    op.create_index(op.f("ix_job_labels_key_value_job_id"), "job_labels", ["key", "value", "job_id"], unique=False)
    op.create_table(
        "runs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("engine", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("workload", sa.String(), nullable=False),
        sa.Column("hardware", sa.String(), nullable=True),
        sa.Column("precision", sa.String(), nullable=True),
        sa.Column("endpoint", sa.String(), nullable=True),
        sa.Column("repeat", sa.Integer(), nullable=False),
        sa.Column("spec_digest", sa.String(), nullable=False),
        sa.Column("workload_digest", sa.String(), nullable=True),
        sa.Column("simulated", sa.Boolean(), nullable=True),
        sa.Column("resources", sa.JSON(), nullable=False),
        sa.Column("lengths_from", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lost_attempts", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("progress", sa.JSON(), nullable=True),
        sa.Column("result_attempt", sa.Integer(), nullable=True),
        sa.Column("validity", sa.String(), nullable=True),
        sa.Column("reason_codes", sa.JSON(), nullable=False),
        sa.Column("failures", sa.JSON(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("duration_s", sa.Double(), nullable=True),
        sa.Column("input_tokens_per_s", sa.Double(), nullable=True),
        sa.Column("output_tokens_per_s", sa.Double(), nullable=True),
        sa.Column("total_tokens_per_s", sa.Double(), nullable=True),
        sa.Column("ttft_p50_s", sa.Double(), nullable=True),
        sa.Column("ttft_p95_s", sa.Double(), nullable=True),
        sa.Column("ttft_p99_s", sa.Double(), nullable=True),
        sa.Column("tpot_p50_s", sa.Double(), nullable=True),
        sa.Column("tpot_p95_s", sa.Double(), nullable=True),
        sa.Column("tpot_p99_s", sa.Double(), nullable=True),
        sa.Column("e2e_p50_s", sa.Double(), nullable=True),
        sa.Column("e2e_p95_s", sa.Double(), nullable=True),
        sa.Column("e2e_p99_s", sa.Double(), nullable=True),
        sa.Column("roofline_ratio", sa.Double(), nullable=True),
        sa.Column("requests", sa.BigInteger(), nullable=True),
        sa.Column("successes", sa.BigInteger(), nullable=True),
        sa.Column("total_input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("total_output_tokens", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_runs_job_id")),
        sa.ForeignKeyConstraint(["lengths_from"], ["runs.id"], name=op.f("fk_runs_lengths_from")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint("job_id", "position", name=op.f("uq_runs_job_id_position")),
    )
    op.create_index(op.f("ix_runs_created_at_id"), "runs", ["created_at", "id"], unique=False)
    op.create_index(op.f("ix_runs_engine_created_at_id"), "runs", ["engine", "created_at", "id"], unique=False)
    op.create_index(op.f("ix_runs_hardware_created_at_id"), "runs", ["hardware", "created_at", "id"], unique=False)
    op.create_index(op.f("ix_runs_model_created_at_id"), "runs", ["model", "created_at", "id"], unique=False)
    op.create_index("ix_runs_queue", "runs", ["status", "priority", "created_at", "id"], unique=False)
    op.create_index(op.f("ix_runs_target_created_at_id"), "runs", ["target", "created_at", "id"], unique=False)
    op.create_index(op.f("ix_runs_validity_created_at_id"), "runs", ["validity", "created_at", "id"], unique=False)
    op.create_index(op.f("ix_runs_workload_created_at_id"), "runs", ["workload", "created_at", "id"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_attempts_run_id")),
        sa.PrimaryKeyConstraint("run_id", "attempt", name=op.f("pk_attempts")),
    )
    op.create_table(
        "documents",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_documents_run_id")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_documents")),
    )
    op.create_table(
        "latest_runs",
        sa.Column("engine", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("workload", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("hardware", sa.String(), nullable=False),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_latest_runs_run_id")),
        sa.PrimaryKeyConstraint(
            "engine", "model", "workload", "target", "hardware", "simulated", name=op.f("pk_latest_runs")
        ),
    )
    op.create_table(
        "records",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("packing", sa.String(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_records_run_id")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_records")),
    )
    op.create_table(
        "resource_leases",
        sa.Column("resource", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_resource_leases_run_id")),
        sa.PrimaryKeyConstraint("resource", name=op.f("pk_resource_leases")),
    )
    op.create_index(op.f("ix_resource_leases_run_id"), "resource_leases", ["run_id"], unique=False)
    op.create_table(
        "run_resources",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("resource", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_resources_run_id")),
        sa.PrimaryKeyConstraint("run_id", "resource", name=op.f("pk_run_resources")),
    )


def downgrade() -> None:
    """Take the schema back."""
    op.drop_table("run_resources")
    op.drop_index(op.f("ix_resource_leases_run_id"), table_name="resource_leases")
    op.drop_table("resource_leases")
    op.drop_table("records")
    op.drop_table("latest_runs")
    op.drop_table("documents")
    op.drop_table("attempts")
    op.drop_index(op.f("ix_runs_workload_created_at_id"), table_name="runs")
    op.drop_index(op.f("ix_runs_validity_created_at_id"), table_name="runs")
    op.drop_index(op.f("ix_runs_target_created_at_id"), table_name="runs")
    op.drop_index("ix_runs_queue", table_name="runs")
    op.drop_index(op.f("ix_runs_model_created_at_id"), table_name="runs")
    op.drop_index(op.f("ix_runs_hardware_created_at_id"), table_name="runs")
    op.drop_index(op.f("ix_runs_engine_created_at_id"), table_name="runs")
    op.drop_index(op.f("ix_runs_created_at_id"), table_name="runs")
    op.drop_table("runs")
    op.drop_index(op.f("ix_job_labels_key_value_job_id"), table_name="job_labels")
    op.drop_table("job_labels")
    op.drop_table("workers")
    op.drop_table("targets")
    op.drop_index(op.f("ix_jobs_created_at_id"), table_name="jobs")
    op.drop_table("jobs")
