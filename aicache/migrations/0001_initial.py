from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='InvalidationTag',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('digest', models.CharField(editable=False, max_length=32, unique=True)),
                ('tag', models.CharField(max_length=210, verbose_name='tag')),
                ('tenant', models.CharField(blank=True, max_length=255, verbose_name='tenant')),
                ('everybody', models.BooleanField(default=False, verbose_name="everybody's")),
                ('compacted', models.PositiveBigIntegerField(default=0, verbose_name='compacted')),
                ('seen_at', models.DateTimeField(verbose_name='last seen')),
            ],
            options={
                'verbose_name': 'tag',
                'verbose_name_plural': 'tags',
                'permissions': (('purge_tag', 'Can purge tags'),),
                'default_permissions': ('view',),
            },
        ),
        migrations.CreateModel(
            name='Invalidation',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('digest', models.CharField(editable=False, max_length=32)),
                ('tag', models.CharField(max_length=210, verbose_name='tag')),
                ('tenant', models.CharField(blank=True, max_length=255, verbose_name='tenant')),
                ('everybody', models.BooleanField(default=False, verbose_name="everybody's")),
                ('cause', models.CharField(blank=True, max_length=255, verbose_name='cause')),
                ('made_at', models.DateTimeField(verbose_name='made')),
                ('applied_at', models.DateTimeField(blank=True, null=True, verbose_name='applied')),
            ],
            options={
                'verbose_name': 'invalidation',
                'verbose_name_plural': 'invalidations',
                'default_permissions': ('view',),
                'indexes': [models.Index(fields=['digest'], name='aicache_invalidation_tag'), models.Index(condition=models.Q(('applied_at__isnull', True)), fields=['id'], name='aicache_invalidation_pending')],
            },
        ),
    ]
