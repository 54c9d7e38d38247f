from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('aicache', '0004_metrics'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='cacheentry',
            options={'default_permissions': ('view',), 'permissions': (('purge_entry', 'Can purge entries'), ('view_content', 'Can read questions and answers'), ('mark_wrong', 'Can mark answers as right or wrong')), 'verbose_name': 'entry', 'verbose_name_plural': 'entries'},
        ),
    ]
